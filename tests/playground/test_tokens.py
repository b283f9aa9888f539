"""What is shown of tokens, of two answers side by side, of the trace and of the server."""

import pytest
from browser import answered, open_page, send
from fake_api import ORIGINS

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_each_token_has_the_colour_of_its_origin(page, api) -> None:
    """And no two origins share one."""
    api.text = "word" * len(ORIGINS)
    await send(page)
    await answered(page)
    classes = await page.eval_on_selector_all(".token", "all => all.map(one => one.className.split(' ')[1])")
    script = "all => all.map(one => [one.className.split(' ')[1], getComputedStyle(one).backgroundColor])"
    colours = dict(await page.eval_on_selector_all(".token", script))

    assert [f"origin-{origin}" for origin in ORIGINS] == classes
    assert len(set(ORIGINS)) == len(set(colours.values()))
    assert "bonus 4 31%" in await page.text_content(".token-view .legend")  # the end token counts too


async def test_a_token_explains_itself_by_pointer_and_by_keyboard(page, api) -> None:
    """Probability, alternatives, and its place in its step."""
    api.text = "word" * len(ORIGINS)
    await send(page)
    await answered(page)
    await page.hover(".token >> nth=2")
    hovered = await page.text_content(".popover")
    await page.focus(".tokens")
    for _ in range(3):
        await page.keyboard.press("ArrowRight")

    assert hovered == await page.text_content(".popover")
    assert "ngram" in hovered
    assert "70 %" in hovered
    assert "␣the20 %" in hovered
    assert "Step 2, token 2 of 3 in it" in hovered
    await page.keyboard.press("Escape")
    assert await page.is_hidden(".popover")


async def test_a_character_of_several_tokens_is_shown_once(page, api) -> None:
    """The tokens before its last one show their bytes."""
    parts = [bytes([byte]) for byte in "é".encode()]
    pieces = [{"token": "�", "logprob": -1.0, "bytes": list(part), "top_logprobs": []} for part in parts]
    chunk = {
        "choices": [{"delta": {"content": "é"}, "logprobs": {"content": pieces}, "token_origins": ["target", "target"]}]
    }
    api.chunks = lambda body: [chunk]
    await send(page)
    await answered(page)

    assert ["C3", "é"] == await page.eval_on_selector_all(".token", "all => all.map(one => one.textContent)")


@pytest.mark.parametrize("is_same", [True, False])
async def test_the_same_request_is_compared_with_speculation_off(page, api, is_same) -> None:
    """With one seed; both speeds are told, and whether the texts are identical."""
    usual = api.chunks
    if not is_same:
        api.chunks = lambda body: usual(body)[: -3 if body["speculation"] == "off" else None]
    await page.check("#compare")
    await send(page)
    await answered(page, 2)
    off, on = api.asked
    verdict = await page.wait_for_selector(".verdict-line .verdict")

    assert "off" == off["speculation"]
    assert {**on, "speculation": "off"} == off
    assert ("✓ Identical texts" if is_same else "✗ The texts differ") == await verdict.text_content()
    if is_same:
        assert "the speed: 100 ms without, 50 ms with" in await page.text_content(".verdict-line")


async def test_the_trace_is_drawn_as_a_waterfall(page) -> None:
    """Its spans in order, and inside the engine's the phases that it tells of."""
    await send(page)
    await answered(page)
    await page.click("text=Trace")
    await page.wait_for_selector(".span-row")
    names = await page.eval_on_selector_all(".span-name", "all => all.map(one => one.textContent)")
    starts = await page.eval_on_selector_all(
        ".span-bar", "all => all.map(one => Math.round(parseFloat(one.style.left)))"
    )

    assert ["POST /v1/chat/completions", "chat fake-model", "queue", "prefill", "decode"] == names
    assert [0, 4, 6, 8, 16] == starts


async def test_what_the_server_lacks_is_left_out(server, browser) -> None:
    """No trace and no audit where there are no such paths."""
    server.api.paths = ()
    async with open_page(browser, server.url) as page:
        await page.wait_for_selector("[data-state=live]")
        await page.click("text=Extract data")
        await page.press("#input", "Enter")
        await answered(page)

        assert await page.is_hidden("#audit")
        assert 0 == await page.locator("button:has-text('Trace')").count()
        assert [] == page.problems


async def test_the_server_is_shown_live(page) -> None:
    """Speed, batch, queue, cache, and how often each method guessed right."""
    await page.wait_for_selector("#figure-speed:text-is('240')")

    assert "3" == await page.text_content("#figure-running")
    assert "1" == await page.text_content("#figure-waiting")
    assert "25 %" == await page.text_content("#figure-kv")
    assert "ngram61 %draft80 %" == await page.text_content("#acceptance")
    assert "ngram 50 %" in await page.text_content("#origins-legend")
