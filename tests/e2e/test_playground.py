"""The playground on a real server: the page's requests are requests that it takes."""

import pytest
import pytest_asyncio
from browser import answered, open_browser, open_page, send

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    async with open_browser() as running:
        yield running


async def test_an_extraction_is_constrained_compared_and_explained(server, browser) -> None:
    """Speculation changes no token, the schema holds, each token has an origin, and the live panel counts them."""
    async with open_page(browser, server.url) as page:
        page.set_default_timeout(30_000)
        await page.wait_for_selector("[data-state=live]")
        await page.click("text=Extract data")
        await page.check("#compare")
        await page.press("#input", "Enter")
        await answered(page, 2)
        verdict = await page.text_content(".verdict-line .verdict")
        texts = [
            "".join(await side.locator(".token").all_text_contents()) for side in await page.locator(".answer").all()
        ]
        await page.wait_for_selector("#origins-legend li")
        await page.uncheck("#compare")
        await send(page, "And the city?")
        await answered(page, 3)

        assert "✓ Identical texts" == verdict
        assert texts[0] == texts[1]
        assert texts[0].startswith('{"name":"')
        assert 0 < await page.locator(".answer >> nth=1 >> .token.origin-grammar, .token.origin-draft").count()
        assert [] == page.problems
