"""`return_token_origins`: one string for each token that the usage counts, streamed and whole."""

from collections import defaultdict

import pytest

MODEL = "outrider-demo"
REPEAT = "Repeat this text: the red fox saw the red fox, and the red fox saw the blue bird near the red fox."
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": REPEAT}], "max_tokens": 60, "seed": 3}
TEXT = {"model": MODEL, "prompt": "One two three four. One two three four. One two", "max_tokens": 30, "seed": 3}
ASKING = {"return_token_origins": True, "speculation": {"methods": ["suffix", "ngram"], "max_tokens": 6}}


def create(client, options: dict, body: dict, **more):
    make = client.chat.completions.create if "messages" in options else client.completions.create
    return make(**options, **more, extra_body=body)


def streamed(client, options: dict, body: dict, **more) -> tuple[dict[int, list[str]], list]:
    """The origins of each answer, and all chunks."""
    chunks = list(
        create(client, options, body, stream=True, stream_options={"include_usage": True}, **more),
    )
    origins: dict[int, list[str]] = defaultdict(list)
    for chunk in chunks:
        for choice in chunk.choices:
            origins[choice.index] += getattr(choice, "token_origins", [])
    return origins, chunks


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("options", [CHAT, TEXT], ids=["chat", "text"])
def test_each_token_of_the_usage_has_an_origin(client, options, temperature) -> None:
    """An end token that shows no text, too; and a stream tells the same as the whole."""
    options = {**options, "temperature": temperature}
    whole = create(client, options, ASKING)
    origins = whole.choices[0].token_origins
    pieces, chunks = streamed(client, options, ASKING)

    assert len(origins) == whole.usage.completion_tokens
    assert set(origins) <= {"suffix", "ngram", "bonus", "target"}
    assert set(origins) & {"suffix", "ngram"}
    drafted = [origin for origin in origins if origin not in ("bonus", "target")]
    assert len(drafted) == whole.usage.completion_tokens_details.accepted_prediction_tokens
    assert pieces == {0: origins}
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_without_speculation_every_token_is_the_targets(client) -> None:
    """Unless nobody asks: then there is no such field."""
    whole = create(client, CHAT, {"return_token_origins": True, "speculation": "off"})
    silent = create(client, CHAT, {"speculation": "ngram"})

    assert whole.choices[0].token_origins == ["target"] * whole.usage.completion_tokens
    assert not hasattr(silent.choices[0], "token_origins")


def test_a_chunk_tells_of_its_own_tokens(client) -> None:
    """Beside the log-probabilities of the same ones; only the end of an answer has tokens without."""
    whole = create(client, {**CHAT, "temperature": 0}, ASKING, logprobs=True)
    _, chunks = streamed(client, {**CHAT, "temperature": 0}, ASKING, logprobs=True)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    first, *between, last = choices

    assert not hasattr(first, "token_origins")  # it opens the message
    assert [len(one.logprobs.content) for one in between] == [len(one.token_origins) for one in between]
    assert max(len(one.token_origins) for one in between) > 2
    assert last.finish_reason == whole.choices[0].finish_reason
    hidden = 1 if last.finish_reason == "stop" else 0
    assert len(last.token_origins) == hidden
    assert len(whole.choices[0].token_origins) == len(whole.choices[0].logprobs.content) + hidden


@pytest.mark.parametrize("options", [CHAT, TEXT], ids=["chat", "text"])
def test_each_of_several_answers_tells_of_its_own_tokens(client, options) -> None:
    """Together they are as many as the usage counts."""
    options = {**options, "temperature": 0.8}
    whole = create(client, options, ASKING, n=2)
    pieces, _ = streamed(client, options, ASKING, n=2)
    alone = [create(client, {**options, "seed": seed}, ASKING) for seed in (3, 4)]

    origins = {choice.index: choice.token_origins for choice in whole.choices}
    assert sum(map(len, origins.values())) == whole.usage.completion_tokens
    assert pieces.keys() == origins.keys()
    # Which steps draft depends on the requests beside them, the number of tokens does not.
    lengths = {index: len(one) for index, one in origins.items()}
    assert lengths == {index: len(one) for index, one in pieces.items()}
    assert lengths == {index: one.usage.completion_tokens for index, one in enumerate(alone)}


def test_a_stop_string_inside_a_draft_cuts_the_origins_with_the_usage(client) -> None:
    """Tokens behind it were accepted and are no part of the answer."""
    text = (
        "The quiet fox slept in the garden. Ada gave the lamp to Bremal. The train from Kyiv to Oslo leaves at 10:30."
    )
    ask = [{"role": "user", "content": f"Repeat this text: {text}"}]
    options = {**CHAT, "messages": ask, "temperature": 0}
    plain = create(client, options, {}).choices[0].message.content
    last = set()
    for start in range(5, len(plain) - 9, 9):
        stop = plain[start : start + 9]
        whole = create(client, options, ASKING, stop=stop)
        pieces, chunks = streamed(client, options, ASKING, stop=stop)
        origins = whole.choices[0].token_origins

        assert whole.choices[0].message.content == plain.partition(stop)[0]
        assert len(origins) == whole.usage.completion_tokens == chunks[-1].usage.completion_tokens
        assert pieces == {0: origins}
        last.add(origins[-1])
    assert last - {"bonus", "target"}, "no stop string fell inside a draft"


def test_the_prompt_that_is_echoed_has_no_origins(client) -> None:
    """Log-probabilities it has."""
    options = {**TEXT, "temperature": 0, "echo": True, "logprobs": 0}
    whole = create(client, options, ASKING)
    pieces, _ = streamed(client, options, ASKING)

    assert len(whole.choices[0].token_origins) == whole.usage.completion_tokens
    assert len(whole.choices[0].logprobs.tokens) > whole.usage.completion_tokens
    assert pieces == {0: whole.choices[0].token_origins}
