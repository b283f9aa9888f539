"""The conversation: what is sent, and what is shown."""

import asyncio
import json

import pytest
from browser import answered, asked, send
from fake_api import AUDIT

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_conversation_is_sent_whole(page, api) -> None:
    """With the system prompt first, and the answers as the server gave them."""
    await page.click("summary:has-text('System prompt')")
    await page.fill("#system", "Be brief.")
    await send(page, "one")
    await answered(page)
    await send(page, "two")
    await answered(page, 2)
    roles = [(message["role"], message["content"]) for message in api.asked[1]["messages"]]

    assert [("system", "Be brief."), ("user", "one"), ("assistant", api.text), ("user", "two")] == roles
    assert api.asked[1]["model"] == "fake-model"
    assert api.asked[1]["return_token_origins"]
    assert "" == await page.input_value("#input")


async def test_markdown_becomes_elements(page, api) -> None:
    """Code, lists, emphasis and links that lead to the web."""
    api.text = (
        "# Title\n\nA *small* `code`, [a link](https://example.org/).\n\n1. one\n2. two\n\n"
        "```python\nif a < b:\n\n    pass\n```\n\nend"
    )
    await send(page)
    await answered(page)
    await page.click(".answer button:text-is('Text')")
    shown = await page.inner_html(".markdown")

    assert "<h3>Title</h3>" in shown
    assert "<em>small</em> <code>code</code>" in shown
    assert '<a href="https://example.org/" target="_blank" rel="noopener noreferrer">a link</a>' in shown
    assert "<ol><li>one</li><li>two</li></ol>" in shown
    assert "if a &lt; b:\n\n    pass</code></pre>" in shown
    assert "<p>end</p>" in shown


async def test_an_answer_streams_and_stops(page, api) -> None:
    """What has come stays, a part of the conversation, and the server hears that nobody waits."""
    api.hold_after = 4
    await send(page)
    await page.wait_for_selector(".token >> nth=2")
    assert api.text[:12] == await page.text_content(".tokens")
    await page.click("#stop-button")
    await page.wait_for_selector("text=Stopped")
    async with asyncio.timeout(10):
        while not api.left:
            await asyncio.sleep(0.01)
    api.hold_after = None
    await send(page, "more")
    await answered(page, 2)

    assert api.text[:12] == api.asked[1]["messages"][1]["content"]


async def test_a_message_is_edited(page, api) -> None:
    """It comes back into the input, and what followed it is gone."""
    await send(page, "first")
    await answered(page)
    await page.click(".message button:has-text('Edit')")
    assert "first" == await page.input_value("#input")
    assert await page.is_visible("#welcome")
    await send(page, "changed")
    await answered(page)

    assert [{"role": "user", "content": "changed"}] == api.asked[1]["messages"]


async def test_text_is_copied(page, api) -> None:
    """The answer as the server gave it, not as it is drawn."""
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await send(page)
    await answered(page)
    await page.click(".answer button:has-text('Copy')")
    await page.wait_for_selector("text=Copied")

    assert api.text == await page.evaluate("navigator.clipboard.readText()")


async def test_settings_become_fields(page, api) -> None:
    """Those that were touched, by the names and types of the API."""
    await page.click("summary:has-text('Sampling')")
    for name, value in {"temperature": "0.5", "top_k": "40", "seed": "7", "max_tokens": "30"}.items():
        await page.fill(f"#{name}", value)
    await page.fill("#stop", "END\nSTOP")
    await page.click("label:has-text('Choose')")
    for method in ("suffix", "ngram"):
        await page.check(f"#methods input[value={method}]")
    await page.fill("#depth", "5")
    await page.uncheck("#tree")
    await page.fill("#min_probability", "0.1")
    await page.fill("#prediction", "the fox")
    await send(page)
    (body,) = await asked(api)
    fields = {name: body.get(name) for name in ("temperature", "top_k", "seed", "max_tokens", "stop", "speculation")}

    assert {
        "temperature": 0.5,
        "top_k": 40,
        "seed": 7,
        "max_tokens": 30,
        "stop": ["END", "STOP"],
        "speculation": {"methods": ["suffix", "ngram"], "max_tokens": 5, "tree": False, "min_probability": 0.1},
    } == fields
    assert {"type": "content", "content": "the fox"} == body["prediction"]
    assert "top_p" not in body
    await answered(page)


@pytest.mark.parametrize(
    ("choice", "expected"), [("Off", "off"), ("Auto", {"methods": ["auto"], "max_tokens": 8}), ("Default", None)]
)
async def test_speculation_is_chosen(page, api, choice, expected) -> None:
    """Nothing is sent for the server's default."""
    await page.click(f"#settings label:text-is('{choice}')")
    await send(page)
    (body,) = await asked(api)

    assert expected == body.get("speculation")
    await answered(page)


async def test_a_schema_is_audited_and_sent(page, api) -> None:
    """Its verdicts stand beside it, keyword by keyword."""
    await page.click("label:has-text('Schema')")
    await page.fill("#schema", '{"type": "object"}')
    await page.check("#strict")
    await page.wait_for_selector("#audit table")
    verdicts = await page.eval_on_selector_all("#audit td .verdict", "all => all.map(one => one.textContent)")
    await send(page)
    (body,) = await asked(api)

    assert [one["verdict"] for one in AUDIT["findings"]] == verdicts
    assert {"schema": {"type": "object"}} == api.audited[-1]
    assert {"name": "answer", "schema": {"type": "object"}, "strict": True} == body["response_format"]["json_schema"]
    await answered(page)


async def test_a_json_answer_is_laid_out(page, api) -> None:
    """In the text view, once it is whole."""
    api.text = '{"a":[1,2]}'
    await send(page)
    await answered(page)
    await page.click(".answer button:text-is('Text')")

    assert json.dumps({"a": [1, 2]}, indent=2) == await page.text_content(".answer pre")


async def test_tools_are_called_and_answered(page, api) -> None:
    """The call is shown, and its result goes back with its id."""
    api.text = ""
    api.tool_calls = [
        {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
        }
    ]
    await page.click("summary:has-text('Tools')")
    await page.click("#tools-example")
    await send(page, "weather?")
    await page.fill(".results textarea", "sunny")
    api.tool_calls, api.text = None, "It is sunny."
    await page.click("text=Send result")
    await answered(page, 2)

    assert "get_weather" == api.asked[0]["tools"][0]["function"]["name"]
    call, result = api.asked[1]["messages"][1:]
    assert '{"city":"Oslo"}' == call["tool_calls"][0]["function"]["arguments"]
    assert {"role": "tool", "tool_call_id": "call_1", "content": "sunny"} == result


@pytest.mark.parametrize(
    ("editor", "section", "text", "words"),
    [
        ("#schema", "label:has-text('Schema')", '{"type": }', "Not valid: "),
        ("#schema", "label:has-text('Schema')", "[]", "a JSON object is needed here"),
        ("#tools", "summary:has-text('Tools')", '[{"a": 1}]', "tool 1 has no function.name"),
    ],
)
async def test_an_editor_says_what_is_wrong(page, api, editor, section, text, words) -> None:
    """In its place; nothing is sent, and nothing that was typed is lost."""
    await page.click(section)
    await page.fill(editor, text)
    await send(page, "kept")

    await page.wait_for_selector(f"#form-error:has-text('{words}')")
    assert words in await page.text_content(f"{editor}-status")
    assert "true" == await page.get_attribute(editor, "aria-invalid")
    assert ("kept", text) == (await page.input_value("#input"), await page.input_value(editor))
    assert [] == api.asked


async def test_a_preset_fills_the_form(page, api) -> None:
    """All six do, and each can be sent."""
    presets = await page.query_selector_all(".preset")
    assert len(presets) == 6
    await page.click("text=Edit a text")
    await page.press("#input", "Enter")
    (body,) = await asked(api)

    assert body["speculation"]["methods"] == ["prediction", "suffix"]
    assert body["prediction"]["content"] in body["messages"][0]["content"]
    await answered(page)
