"""Debian's Chromium under Playwright, and pages that remember what went wrong in them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fake_api import FakeApi
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium")


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """The browser; where there is none the tests that ask for it are skipped, and say so."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: `apt-get install chromium` for the playground's tests")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(browser: Browser, url: str, **options: object) -> AsyncIterator[Page]:
    """The playground at `url`, in a context of its own; `page.problems` holds what the console and scripts report."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    page.set_default_timeout(5_000)
    page.problems = []
    page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("dialog", lambda dialog: page.problems.append(f"dialog: {dialog.message}"))
    try:
        await page.goto(url)
        yield page
    finally:
        await context.close()


async def send(page: Page, text: str = "hello") -> None:
    """Writes a message and presses Enter."""
    await page.fill("#input", text)
    await page.press("#input", "Enter")


async def answered(page: Page, count: int = 1) -> None:
    """Waits until so many answers are complete."""
    await page.locator(".answer-status:not(:empty)").nth(count - 1).wait_for()


async def asked(api: FakeApi, count: int = 1) -> list[dict]:
    """Waits until the server has been asked so often, and returns the bodies."""
    async with asyncio.timeout(10):
        while len(api.asked) < count:
            await asyncio.sleep(0.01)
    return api.asked
