"""POST /tokenize and /detokenize: exactly what a request would have, in vLLM's shapes."""

import aiohttp
import pytest
from api_server import MODEL, api_server, demo_tokenizer

MESSAGES = [{"role": "user", "content": "the red fox"}]


@pytest.fixture
async def post():
    """Status and body of an answer; its attribute `engine` is the server's engine."""
    async with api_server() as server, aiohttp.ClientSession() as session:

        async def posted(path: str, **body: object) -> tuple[int, dict]:
            async with session.post(server.url + path, json=body) as response:
                return response.status, await response.json()

        posted.engine = server.engine
        yield posted


async def test_the_tokens_are_those_of_a_request(post) -> None:
    """Of a text, and of a conversation."""
    _, text = await post("/tokenize", model=MODEL, prompt="the red fox")
    _, chat = await post("/tokenize", messages=MESSAGES)
    await post("/v1/completions", model=MODEL, prompt="the red fox", max_tokens=1)
    await post("/v1/chat/completions", model=MODEL, messages=MESSAGES, max_tokens=1)

    assert [submit.prompt_ids for submit in post.engine.submits] == [text["tokens"], chat["tokens"]]
    assert (len(text["tokens"]), 512) == (text["count"], text["max_model_len"])
    assert "token_strs" not in text


async def test_tokens_become_the_text_again(post) -> None:
    """Special ones are shown, as vLLM has it."""
    _, chat = await post("/tokenize", messages=MESSAGES, return_token_strs=True)
    _, text = await post("/detokenize", model=MODEL, tokens=chat["tokens"])

    assert demo_tokenizer().render_chat(MESSAGES) == text["prompt"]
    assert len(chat["tokens"]) == len(chat["token_strs"])


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "pormpt": "a"}, 400, "pormpt"),
        ("/tokenize", {"prompt": "a", "model": "nobody"}, 404, "model"),
        ("/tokenize", {"prompt": ["a"]}, 400, "prompt"),
        ("/detokenize", {"tokens": [8192]}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]"),
        ("/detokenize", {"tokens": "a"}, 400, "tokens"),
    ],
)
async def test_a_mistake_names_its_field(post, path, body, status, param) -> None:
    """As everywhere."""
    got, answer = await post(path, **body)

    assert (status, param) == (got, answer["error"]["param"])


async def test_the_key_guards_both() -> None:
    """Although they are not under /v1."""
    async with api_server(api_key="sk-secret") as server, aiohttp.ClientSession() as session:
        statuses = []
        for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [30]})):
            for headers in ({}, {"Authorization": "Bearer sk-secret"}):
                async with session.post(server.url + path, json=body, headers=headers) as response:
                    statuses.append(response.status)

        assert [401, 200, 401, 200] == statuses
