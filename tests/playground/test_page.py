"""The page as a whole: its size, its speed, its headers, and who can use it."""

import aiohttp
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from browser import answered, open_page, send

from outrider.gateway import playground

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"width": 390, "height": 844}
FRAMES = """() => {
    window.frames_ = [0]; // those that took longer than 50 ms, drawing included
    const observer = new PerformanceObserver((list) => list.getEntries().forEach((one) => frames_.push(one.duration)));
    observer.observe({ type: "long-animation-frame" });
}"""


async def violations(page) -> list[tuple[str, str]]:
    """Of axe's rules for WCAG 2.2 A and AA and its best practices."""
    await page.evaluate(AXE_SCRIPT)
    found = await page.evaluate("axe.run()")
    return [(rule["id"], node["html"][:120]) for rule in found["violations"] for node in rule["nodes"]]


async def test_the_whole_page_is_small(server) -> None:
    """Under 200 KB, without compression."""
    async with aiohttp.ClientSession() as session:
        sizes = [len(await (await session.get(server.url + path[1:])).read()) for path in playground.FILE_PATHS]

    assert sum(sizes) < 200_000


async def test_files_carry_a_strict_policy_and_a_tag(server) -> None:
    """Nothing inline, nothing from elsewhere; a browser that has a file gets no second copy."""
    async with aiohttp.ClientSession() as session:
        first = await session.get(server.url)
        again = await session.get(server.url, headers={"If-None-Match": first.headers["ETag"]})
        other = await session.get(server.url, headers={"If-None-Match": '"other"'})
        policy = first.headers["Content-Security-Policy"]

        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert (200, 304, 200) == (first.status, again.status, other.status)
        assert b"" == await again.read()


async def test_the_first_paint_is_fast(page) -> None:
    """Under 300 ms, the best of three: the machine may be busy."""
    times = []
    for _ in range(3):
        await page.reload()
        await page.wait_for_selector("[data-state=live]")
        times.append(await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))

    assert min(times) < 300


@pytest.mark.parametrize("view", ["tokens", "text"])
async def test_two_thousand_tokens_stream_without_a_long_frame(page, api, view) -> None:
    """Each frame is done within 100 ms; the machine may be busy, so the best of three runs counts."""
    await page.evaluate(f"localStorage.setItem('outrider.view', '{view}')")
    api.text = "some words and\n\n" * 500
    worst = []
    for run in range(3):
        await page.evaluate(FRAMES)
        await send(page)
        await answered(page)
        worst.append(await page.evaluate("Math.max(...window.frames_)"))
        await page.click("#new-chat")
        if worst[run] < 100:
            break

    assert min(worst) < 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_use_it(server, browser, scheme) -> None:
    """axe finds nothing, empty and with all that can be open, on a desk and on a phone."""
    async with open_page(browser, server.url, color_scheme=scheme) as page:
        await page.wait_for_selector("[data-state=live]")
        assert [] == await violations(page)
        await page.click("text=Extract data")
        await page.wait_for_selector("#audit table")
        for section in await page.query_selector_all("#settings details:not([open]) summary"):
            await section.click()
        await page.check("#compare")
        await page.click("label:has-text('Choose')")
        await page.check("#methods input[value=ngram]")
        await page.press("#input", "Enter")
        await answered(page, 2)
        await page.click("text=Trace >> nth=-1")
        await page.wait_for_selector(".span-row")
        await page.hover(".token >> nth=0")
        assert [] == await violations(page)
        await page.click("#key-button")
        assert [] == await violations(page)
        await page.keyboard.press("Escape")
        await page.set_viewport_size(PHONE)
        await page.click("nav >> text=Settings")
        assert [] == await violations(page)

        assert [] == page.problems


async def test_a_phone_shows_all_of_it(server, browser) -> None:
    """Nothing is wider than the screen, and the panels open over it."""
    async with open_page(browser, server.url, viewport=PHONE) as page:
        await page.wait_for_selector("[data-state=live]")
        await send(page)
        await answered(page)
        width = await page.evaluate("document.documentElement.scrollWidth")
        for panel in ("server", "settings"):
            await page.click(f"[data-panel={panel}]")
            assert await page.is_visible(f"#{panel}")
            await page.keyboard.press("Escape")
            assert not await page.is_visible(f"#{panel}")

        assert width <= PHONE["width"]


async def test_a_conversation_by_keyboard_alone(page, api) -> None:
    """Written, sent, its tokens read, its trace opened."""
    await page.keyboard.type("hello")
    await page.keyboard.press("Enter")
    await answered(page)
    for _ in range(12):
        await page.keyboard.press("Shift+Tab")
        if "Trace" == await page.evaluate("document.activeElement.textContent"):
            break
    await page.keyboard.press("Enter")

    await page.wait_for_selector(".span-row")
