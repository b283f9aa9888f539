"""Refusals, lost connections, hostile texts: said in their place, and nothing that was typed is lost."""

import pytest
from browser import answered, asked, open_page, send

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[w](javascript:alert`1`) [v](JaVaScript:alert%281%29) [u](vbscript:x)",
    "[x](javascript:alert(1)) [y](data:text/html,<script>alert(1)</script>) ![z](http://127.0.0.1:9/beacon.png)",
    "</code></pre><svg onload=alert(1)>",
    "```\n</code><iframe srcdoc='<script>alert(1)</script>'>\n```",
    "<style>*{display:none}</style><base href='//evil.example/'><form action='//evil.example/'>",
    "\u202e\u0000{{constructor.constructor('alert(1)')()}}",
]


async def settle(page) -> None:
    """Waits for what went wrong to be said."""
    await page.wait_for_selector(".turn .problem")


def allow(page, words: str) -> None:
    """Takes the browser's own line about a failed request out of what must not be there."""
    page.problems = [problem for problem in page.problems if words not in problem]


async def test_a_refusal_is_shown_in_its_place(page, api) -> None:
    """With the field's name; the message stays, and can be sent again."""
    api.refusal = (400, {"message": "Unknown <b>field</b> `x`", "param": "messages[0].x"}, {})
    await send(page, "kept")
    await settle(page)
    assert "Unknown <b>field</b> `x` [messages[0].x]" in await page.text_content(".turn .problem")
    assert "kept" == await page.text_content(".message-text")
    api.refusal = None
    await page.click("text=Try again")
    await answered(page)

    assert [{"role": "user", "content": "kept"}] == api.asked[1]["messages"]
    assert 0 == await page.locator(".turn .problem").count()
    allow(page, "400 (Bad Request)")


async def test_a_rate_limit_tells_the_wait(page, api) -> None:
    """In seconds, as the server gave it."""
    api.refusal = (429, {"message": "Rate limit reached"}, {"Retry-After": "3", "retry-after-ms": "2100"})
    await send(page)
    await settle(page)

    assert "Rate limit reached (3 s)" in await page.text_content(".turn .problem")
    allow(page, "429 (Too Many Requests)")


async def test_a_lost_connection_keeps_what_has_come(page, api) -> None:
    """It can be asked again, and is no part of the conversation."""
    api.hold_after = api.cut_after = 5
    await send(page)
    await page.wait_for_selector(".token >> nth=3")
    api.go_on.set()
    await settle(page)
    assert "The connection to the server was lost after 4 tokens" in await page.text_content(".turn .problem")
    assert api.text[:16] == await page.text_content(".tokens")
    api.cut_after = None
    await send(page, "next")
    await answered(page)

    assert ["user", "user"] == [message["role"] for message in api.asked[1]["messages"]]
    allow(page, "net::ERR")


async def test_an_error_in_the_middle_of_a_stream_is_told(page, api) -> None:
    """As the server words it."""
    usual = api.chunks
    api.chunks = lambda body: [*usual(body)[:3], {"error": {"message": "the engine was lost"}}]
    await send(page)
    await settle(page)

    assert "the engine was lost after 2 tokens" in await page.text_content(".turn .problem")


async def test_a_wrong_key_is_asked_for_again(server, browser) -> None:
    """The page itself is open; with the right key all goes on."""
    server.api.key = "right"
    async with open_page(browser, server.url) as page:
        await page.wait_for_selector("[data-state=key]")
        await page.fill("#key", "wrong")
        await page.press("#key", "Enter")
        await page.wait_for_selector("#key-reason:has-text('Incorrect or missing API key')")
        await page.fill("#key", "right")
        await page.press("#key", "Enter")
        await page.wait_for_selector("[data-state=live]")
        await send(page)
        await answered(page)
        allow(page, "401 (Unauthorized)")

        assert [] == page.problems


async def test_the_server_goes_and_comes_back(page, server, api) -> None:
    """The page says so both times, and the message that could not be sent is sent then."""
    await server.stop()
    await page.wait_for_selector("[data-state=gone]")
    await send(page, "still here")
    await settle(page)
    assert "The server cannot be reached" in await page.text_content(".turn .problem")
    await server.start()
    await page.wait_for_selector("[data-state=live]")
    await page.click("text=Try again")
    await answered(page)

    assert "still here" == api.asked[0]["messages"][0]["content"]
    allow(page, "net::ERR")


async def test_hostile_texts_stay_text(page, api) -> None:
    """In answers, tokens, messages, schemas, tool calls and names of proposers: nothing runs, nothing is fetched."""
    wanted: list[str] = []
    page.on("request", lambda request: wanted.append(request.url))
    text = "\n\n".join(HOSTILE)
    api.text = text
    usual = api.chunks
    token = {"token": HOSTILE[1], "logprob": -1, "top_logprobs": [{"token": HOSTILE[1], "logprob": -1}]}
    named = {"choices": [{"delta": {}, "token_origins": [HOSTILE[0]], "logprobs": {"content": [token]}}]}
    api.chunks = lambda body: [*usual(body)[:-1], named, usual(body)[-1]]
    api.tool_calls = [{"index": 0, "id": HOSTILE[1], "function": {"name": HOSTILE[1], "arguments": HOSTILE[0]}}]
    await page.click("label:has-text('Schema')")
    await page.fill("#schema", '{"<img src=x onerror=alert(1)>": "<script>alert(1)</script>"}')
    await page.wait_for_selector("#audit table")
    await send(page, text)
    await answered(page)
    for place in (0, -1):
        await page.hover(f".token >> nth={place}")
    await page.click("text=Trace")
    await page.wait_for_selector(".span-row")
    await page.click(".answer button:text-is('Text')")
    await page.wait_for_selector(".markdown")

    foreign = "script:not([src^='playground/']), iframe, base, style, svg[onload], img:not([src='playground/mark.svg'])"
    targets = await page.eval_on_selector_all(".turn a", "all => all.map(one => one.href)")
    assert [] == await page.eval_on_selector_all(foreign, "all => all.map(one => one.outerHTML)")
    assert {"http://127.0.0.1:9/beacon.png"} == set(targets)  # a picture is a link: nothing is fetched unasked
    assert all(url.startswith(page.url) for url in wanted)
    assert HOSTILE[0] in await page.text_content(".markdown")


async def test_a_wrong_number_is_told_before_it_is_sent(page, api) -> None:
    """Beside the message, and the field is marked."""
    await page.click("summary:has-text('Sampling')")
    await page.fill("#temperature", "9")
    await send(page, "kept")
    await page.wait_for_selector("#form-error:has-text('temperature')")

    assert ("kept", "9") == (await page.input_value("#input"), await page.input_value("#temperature"))
    await page.fill("#temperature", "1")
    await send(page, "kept")
    assert 1 == (await asked(api))[0]["temperature"]
    await answered(page)
