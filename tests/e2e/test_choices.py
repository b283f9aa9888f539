"""Several answers to one request, and what they say of their probabilities; the openai client, unmodified."""

import itertools
import math
from collections import defaultdict

import openai
import pytest

MODEL = "outrider-demo"
ASK = [{"role": "user", "content": "Write a sentence about a quiet fox and the café."}]
OPTIONS = {"model": MODEL, "messages": ASK, "max_tokens": 24, "temperature": 1.0, "seed": 7}


def test_n_answers_are_those_of_the_seeds_that_follow(client) -> None:
    """The prompt is counted once, the answers' tokens all."""
    several = client.chat.completions.create(**OPTIONS, n=3)
    alone = [client.chat.completions.create(**{**OPTIONS, "seed": seed}) for seed in (7, 8, 9)]

    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert [choice.message.content for choice in several.choices] == [one.choices[0].message.content for one in alone]
    assert several.usage.prompt_tokens == alone[0].usage.prompt_tokens
    assert several.usage.completion_tokens == sum(one.usage.completion_tokens for one in alone)


def test_n_answers_stream_side_by_side(client) -> None:
    """Each chunk names its answer, and each answer ends with its own reason."""
    whole = client.chat.completions.create(**OPTIONS, n=3)
    texts: dict[int, str] = defaultdict(str)
    reasons = {}
    usage = None
    for chunk in client.chat.completions.create(**OPTIONS, n=3, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert choice.index not in reasons
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason

    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_log_probabilities_belong_to_the_tokens_of_the_answer(client) -> None:
    """Their bytes joined are the text; the drawn token is among the likeliest at temperature 0, as the first."""
    completion = client.chat.completions.create(**{**OPTIONS, "temperature": 0}, logprobs=True, top_logprobs=3)
    choice = completion.choices[0]
    entries = choice.logprobs.content

    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == choice.message.content
    for entry in entries:
        assert [top.logprob for top in entry.top_logprobs] == sorted(
            (top.logprob for top in entry.top_logprobs), reverse=True
        )
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0
        assert entry.token == entry.top_logprobs[0].token
        assert sum(math.exp(top.logprob) for top in entry.top_logprobs) <= 1.0001


@pytest.mark.parametrize("speculation", ["off", "ngram"])
def test_a_stream_carries_the_same_log_probabilities(client, speculation) -> None:
    """With speculation, too: several tokens of one step, each with its own."""
    options = {**OPTIONS, "messages": [{"role": "user", "content": "Repeat this text: the fox saw the fox, the fox."}]}
    whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=2)
    streamed = client.chat.completions.create(
        **options, logprobs=True, top_logprobs=2, stream=True, extra_body={"speculation": speculation}
    )
    entries = [
        entry
        for chunk in streamed
        for choice in chunk.choices
        if choice.logprobs is not None
        for entry in choice.logprobs.content
    ]

    assert entries == whole.choices[0].logprobs.content


def test_processed_log_probabilities_are_those_that_tokens_are_drawn_from(client) -> None:
    """With all but one token cut away, its logarithm is zero."""
    options = {**OPTIONS, "max_tokens": 4, "logprobs": True, "extra_body": {"logprobs_mode": "processed_logprobs"}}
    completion = client.chat.completions.create(**options, top_p=1e-6, top_logprobs=5)

    for entry in completion.choices[0].logprobs.content:
        assert entry.logprob == 0
        assert len(entry.top_logprobs) == 1


def test_completions_give_log_probabilities_in_their_own_shape(client) -> None:
    """Offsets are places in the text."""
    choice = client.completions.create(
        model=MODEL, prompt="The quiet fox", max_tokens=12, temperature=0, logprobs=2
    ).choices[0]

    assert "".join(choice.logprobs.tokens) == choice.text
    for token, offset, likeliest, value in zip(
        choice.logprobs.tokens,
        choice.logprobs.text_offset,
        choice.logprobs.top_logprobs,
        choice.logprobs.token_logprobs,
        strict=True,
    ):
        assert choice.text[offset:].startswith(token)
        assert likeliest[token] == value


@pytest.mark.parametrize("stop", [None, ["o", "ally"]])
def test_offsets_are_the_same_streamed_and_whole(client, stop) -> None:
    """With characters of several tokens and text that waits for a stop string; an offset never lies past the text."""
    options = {
        "model": MODEL,
        "prompt": "Repeat this text: é東 é東 é東",
        "max_tokens": 20,
        "temperature": 1.2,
        "seed": 5,
    }
    options |= {"logprobs": 1, "stop": stop}
    whole = client.completions.create(**options).choices[0]
    offsets = [
        offset
        for chunk in client.completions.create(**options, stream=True)
        if chunk.choices[0].logprobs is not None
        for offset in chunk.choices[0].logprobs.text_offset
    ]

    assert offsets == whole.logprobs.text_offset == sorted(offsets)
    if stop is None:
        assert offsets[-1] <= len(whole.text)


def test_best_of_returns_the_likeliest(client) -> None:
    """By the mean log-probability of its tokens; the tokens of all are counted."""
    options = {"model": MODEL, "prompt": "The quiet fox", "max_tokens": 8, "temperature": 1.5, "seed": 3}
    all_four = client.completions.create(**options, n=4, logprobs=0)
    means = [sum(one.logprobs.token_logprobs) / len(one.logprobs.token_logprobs) for one in all_four.choices]
    best = client.completions.create(**options, best_of=4)

    assert best.choices[0].text == all_four.choices[means.index(max(means))].text
    assert best.choices[0].logprobs is None
    assert best.usage.completion_tokens == all_four.usage.completion_tokens


def test_echo_begins_with_the_prompt(client) -> None:
    """Whole and streamed."""
    options = {"model": MODEL, "prompt": "The quiet fox", "max_tokens": 6, "temperature": 0}
    plain = client.completions.create(**options).choices[0].text

    assert client.completions.create(**options, echo=True).choices[0].text == f"The quiet fox{plain}"
    streamed = client.completions.create(**options, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == f"The quiet fox{plain}"


def test_echo_with_logprobs_scores_the_prompt(client) -> None:
    """As OpenAI had it and evaluation harnesses use it: the first token has none, offsets tile the text."""
    options = {"model": MODEL, "prompt": "The quiet fox sleeps", "max_tokens": 4, "temperature": 0, "logprobs": 2}
    for _ in range(2):  # the second time its keys and values are in the cache
        whole = client.completions.create(**options, echo=True).choices[0]
        logprobs = whole.logprobs

        assert logprobs.token_logprobs[0] is None
        assert logprobs.top_logprobs[0] is None
        assert all(value <= 0 for value in logprobs.token_logprobs[1:])
        assert all(2 <= len(top) <= 3 for top in logprobs.top_logprobs[1:])
        begins = [*logprobs.text_offset, len(whole.text)]
        assert "".join(whole.text[a:b] for a, b in itertools.pairwise(begins)) == whole.text
        shown = [whole.text[a:b] for a, b in itertools.pairwise(begins)]
        assert (shown[0], shown[1:]) == ("", logprobs.tokens[1:])  # the begin token shows no text
    streamed = list(client.completions.create(**options, echo=True, stream=True))
    scored = [chunk.choices[0].logprobs for chunk in streamed if chunk.choices[0].logprobs]
    assert [value for one in scored for value in one.token_logprobs] == pytest.approx(logprobs.token_logprobs, abs=1e-6)
    assert [offset for one in scored for offset in one.text_offset] == logprobs.text_offset


@pytest.mark.parametrize("prompt", [[300], ""])
def test_echo_with_logprobs_knows_a_prompt_of_one_token(client, prompt) -> None:
    """It has none before it, and so no log-probability."""
    options = {"model": MODEL, "prompt": prompt, "max_tokens": 2, "temperature": 0, "logprobs": 1}
    choice = client.completions.create(**options, echo=True).choices[0]

    assert choice.logprobs.token_logprobs[0] is None
    assert None not in choice.logprobs.token_logprobs[1:]
    assert choice.logprobs.text_offset[0] == 0


def test_bad_and_allowed_tokens_hold_in_the_answer(client) -> None:
    """Words that the answer had are gone, and nothing but what is allowed comes."""
    options = {"model": MODEL, "prompt": "Repeat this text: fox fox fox fox", "max_tokens": 16, "temperature": 0}
    tokens = client.completions.create(**options, logprobs=0).choices[0].logprobs.tokens
    without = client.completions.create(**options, extra_body={"bad_words": ["fox"]}).choices[0].text
    only = client.completions.create(
        **options, extra_body={"allowed_token_ids": [70], "ignore_eos": True}, logprobs=0
    ).choices[0]

    assert any("fox" in token for token in tokens)
    assert "fox" not in without
    assert len(set(only.logprobs.tokens)) == 1


@pytest.mark.parametrize(
    ("call", "body", "param"),
    [
        ("chat", {"top_logprobs": 2}, "top_logprobs"),
        ("chat", {"n": 0}, "n"),
        ("chat", {"n": 129}, "n"),
        ("chat", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ("text", {"n": 3, "best_of": 2}, "best_of"),
        ("text", {"best_of": 2, "stream": True}, "best_of"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(client, call, body, param) -> None:
    """One sentence with the way out."""
    create = client.chat.completions.create if call == "chat" else client.completions.create
    prompt = {"messages": ASK} if call == "chat" else {"prompt": "x"}
    with pytest.raises(openai.BadRequestError) as refused:
        create(model=MODEL, **prompt, **body)

    assert refused.value.param == param
