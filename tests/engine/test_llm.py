"""The engine in a Python program: the same answers as one request at a time, and nothing left behind."""

import asyncio

import pytest
from random_speculators import write_speculators

from outrider.demo import target_path
from outrider.engine import LLM, SamplingParams
from outrider.engine.errors import EngineError, RequestError
from outrider.engine.protocol import FinishReason

PROMPTS = ["The quiet fox", "Repeat this text: a b a b a b", "def add(a, b):", "What is Outrider?"]


@pytest.fixture(scope="module")
def llm():
    with LLM(str(target_path()), dtype="float32", num_threads=1) as llm:
        yield llm


def test_a_batch_gives_what_single_prompts_give(llm) -> None:
    """In order, at any temperature, with and without drafts."""
    params = SamplingParams(max_tokens=24, temperature=0.8, seed=3)
    together = llm.generate(PROMPTS, params)

    assert [output.answers for output in together] == [llm.generate(prompt, params)[0].answers for prompt in PROMPTS]
    drafted = llm.generate(PROMPTS, SamplingParams(max_tokens=24, temperature=0.8, seed=3, speculation=["ngram"]))
    assert [output.answers for output in drafted] == [output.answers for output in together]


def test_prompts_may_have_parameters_of_their_own(llm) -> None:
    """One for each, and refused if they do not match."""
    each = [SamplingParams(max_tokens=count, temperature=0, ignore_eos=True) for count in (1, 5)]
    outputs = llm.generate(PROMPTS[:2], each)

    assert [len(output.answers[0].token_ids) for output in outputs] == [1, 5]
    assert [output.answers[0].finish_reason for output in outputs] == [FinishReason.LENGTH] * 2
    with pytest.raises(RequestError, match="3 prompts have 2 sampling parameters"):
        llm.generate(PROMPTS[:3], each)


def test_n_answers_have_seeds_that_follow(llm) -> None:
    """As over HTTP."""
    (several,) = llm.generate("The quiet fox", SamplingParams(max_tokens=9, seed=5, n=3))
    alone = [llm.generate("The quiet fox", SamplingParams(max_tokens=9, seed=seed))[0] for seed in (5, 6, 7)]

    assert several.answers == tuple(one.answers[0] for one in alone)


def test_conversations_are_rendered_by_the_template(llm) -> None:
    """And a stop string cuts the answer before it."""
    conversation = [{"role": "user", "content": "Copy this text exactly: the old mill by the river"}]
    (plain,) = llm.chat([conversation], SamplingParams(max_tokens=20, temperature=0))
    (cut,) = llm.chat([conversation], SamplingParams(max_tokens=20, temperature=0, stop=["mill"], logprobs=0))

    assert "mill" in plain.answers[0].text
    assert cut.answers[0].text == plain.answers[0].text.partition("mill")[0]
    assert cut.answers[0].finish_reason == FinishReason.STOP
    assert len(cut.answers[0].logprobs) == len(cut.answers[0].token_ids)


def test_a_prompt_can_be_scored(llm) -> None:
    """Every token of it but the first."""
    (output,) = llm.generate("The quiet fox", SamplingParams(max_tokens=1, prompt_logprobs=2))

    assert len(output.prompt_logprobs) == len(output.prompt_token_ids) - 1
    assert all(len(one.top) == 2 and one.drawn <= one.top[0] for one in output.prompt_logprobs)


def test_a_prediction_changes_nothing_but_the_speed(llm) -> None:
    """The answer itself is the best one."""
    (plain,) = llm.generate(PROMPTS[1], SamplingParams(max_tokens=24, temperature=0))
    prediction = plain.answers[0].text
    (drafted,) = llm.generate(PROMPTS[1], SamplingParams(max_tokens=24, temperature=0, prediction=prediction))

    assert drafted.answers == plain.answers


def test_answers_tell_where_their_tokens_come_from(llm) -> None:
    """When asked; one word for each token, cut with them at a stop string."""
    options = {"max_tokens": 24, "temperature": 0, "speculation": ["ngram"]}
    (silent,) = llm.generate(PROMPTS[1], SamplingParams(**options))
    (telling,) = llm.generate(PROMPTS[1], SamplingParams(**options, return_token_origins=True))
    stop = telling.answers[0].text[3:9]
    (cut,) = llm.generate(PROMPTS[1], SamplingParams(**options, return_token_origins=True, stop=stop))

    assert silent.answers[0].token_origins == ()
    for answer in (telling.answers[0], cut.answers[0]):
        assert len(answer.token_origins) == len(answer.token_ids)
        assert set(answer.token_origins) <= {"ngram", "bonus", "target"}
    assert "ngram" in telling.answers[0].token_origins


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 2.0),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("typical_p", 0.0),
        ("repetition_penalty", 0.0),
        ("frequency_penalty", float("nan")),
        ("logit_bias", {5: float("inf")}),
        ("min_tokens", -1),
        ("stop_token_ids", [10**9]),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(llm, field, value) -> None:
    """As over HTTP; beside one that is fine."""
    bad, good = llm.generate(
        PROMPTS[:2], [SamplingParams(max_tokens=2, **{field: value}), SamplingParams(max_tokens=2)]
    )

    assert bad.answers[0].finish_reason is FinishReason.ERROR
    assert field in bad.answers[0].error
    assert good.answers[0].error is None


def test_a_prediction_that_cannot_help_is_told(llm) -> None:
    """Asked for without one, longer than any answer, or beside `off`; without speculation it is left unused."""
    for params, message in (
        (SamplingParams(speculation="prediction"), "needs the field `prediction`"),
        (SamplingParams(prediction="word " * 5000), "more than the context"),
        (SamplingParams(speculation=["off", "ngram"]), "`off` stands alone"),
        (SamplingParams(speculation="eagle"), "method `eagle` is not loaded: use one of `off`, "),
    ):
        with pytest.raises(RequestError, match=message):
            llm.generate(PROMPTS[0], params)
    with LLM(str(target_path()), dtype="float32", num_threads=1, speculation_allowed=False) as plain:
        params = SamplingParams(max_tokens=8, temperature=0, prediction="The quiet fox")
        assert plain.generate(PROMPTS[0], params)[0].answers == llm.generate(PROMPTS[0], params)[0].answers


def test_speculators_are_loaded_by_their_options(llm, tmp_path) -> None:
    """Each drafts when it is named, and changes no answer."""
    folders = write_speculators(target_path(), tmp_path)
    options = {"max_tokens": 24, "temperature": 0.8, "seed": 3, "ignore_eos": True, "return_token_origins": True}
    expected = [output.answers[0].token_ids for output in llm.generate(PROMPTS, SamplingParams(**options))]
    with LLM(str(target_path()), dtype="float32", num_threads=1, **folders) as drafting:
        for method in folders:
            outputs = drafting.generate(PROMPTS, SamplingParams(**options, speculation=method))

            assert [output.answers[0].token_ids for output in outputs] == expected
            assert "bonus" in {origin for output in outputs for origin in output.answers[0].token_origins}


def test_a_stream_grows_to_the_whole_answer(llm) -> None:
    """Several at once, each on its own."""
    params = SamplingParams(max_tokens=16, temperature=0)
    whole = [output.answers[0].text for output in llm.generate(PROMPTS, params)]

    async def collect(prompt: str) -> str:
        return "".join([piece async for piece in llm.stream(prompt, params)])

    async def collect_all() -> list[str]:
        return await asyncio.gather(*map(collect, PROMPTS))

    assert asyncio.run(collect_all()) == whole


def test_a_stream_that_is_left_is_aborted(llm) -> None:
    """Its place is free again."""

    async def leave() -> None:
        stream = llm.stream("The quiet fox", SamplingParams(max_tokens=500, ignore_eos=True))
        await anext(stream)
        await stream.aclose()

    asyncio.run(leave())
    assert not llm._sinks


def test_a_prompt_that_does_not_fit_is_refused_before_any_starts(llm) -> None:
    """With the numbers that say why."""
    with pytest.raises(RequestError, match=r"prompt 1 has 20000 tokens, and the context of \d+ has no room"):
        llm.generate([[5, 6], [5] * 20000])
    with pytest.raises(RequestError, match="prompt 0 has no tokens"):
        llm.generate([[]])


def test_a_prompt_that_the_engine_refuses_fails_alone(llm) -> None:
    """The others are answered."""
    good, bad = llm.generate([[5, 6], [999_999]], SamplingParams(max_tokens=2, ignore_eos=True))

    assert good.answers[0].finish_reason == FinishReason.LENGTH
    assert bad.answers[0].finish_reason == FinishReason.ERROR
    assert "token ids must lie between" in (bad.answers[0].error or "")


@pytest.mark.parametrize(
    "bad",
    [
        {"allowed_token_ids": [10**6]},
        {"allowed_token_ids": [-1]},
        {"logit_bias": {10**6: 1.0}},
        {"stop_token_ids": [10**6], "min_tokens": 3},
        {"logprobs": -1},
    ],
)
def test_parameters_of_nonsense_fail_their_request_alone(llm, bad) -> None:
    """What the engine cannot take in must not end its step, where others are."""
    good = SamplingParams(max_tokens=3, temperature=0, ignore_eos=True)
    outputs = llm.generate(PROMPTS[:3], [good, SamplingParams(max_tokens=3, **bad), good])

    reasons = [output.answers[0].finish_reason for output in outputs]
    assert reasons == [FinishReason.LENGTH, FinishReason.ERROR, FinishReason.LENGTH]


def test_parameters_of_a_wrong_type_are_refused_by_name(llm) -> None:
    """Before anything starts."""
    with pytest.raises(RequestError, match=r"of prompt 0: Expected `float`, got `str` - at `\$.temperature`"):
        llm.generate("x", SamplingParams(temperature="1"))


def test_one_string_is_one_string(llm) -> None:
    """Not its letters."""
    plain = llm.generate("The quiet fox", SamplingParams(max_tokens=12, temperature=0))[0].answers[0]
    options = {"max_tokens": 12, "temperature": 0, "speculation": "ngram", "bad_words": "zzzz", "stop": "zzzz"}

    assert llm.generate("The quiet fox", SamplingParams(**options))[0].answers[0] == plain
    off = SamplingParams(max_tokens=12, temperature=0, speculation="off")
    assert llm.generate("The quiet fox", off)[0].answers[0] == plain
    with pytest.raises(RequestError, match="n must be at least 1"):
        llm.generate("x", SamplingParams(n=0))


def test_a_loop_that_closes_over_its_streams_harms_nobody(llm) -> None:
    """The engine goes on, though it still has tokens for a loop that is no more."""
    loop = asyncio.new_event_loop()
    stream = llm.stream("The quiet fox", SamplingParams(max_tokens=1500, ignore_eos=True))
    loop.run_until_complete(anext(stream))
    loop.close()

    assert llm.generate("The quiet fox", SamplingParams(max_tokens=40, ignore_eos=True))[0].answers[0].error is None


def test_a_closed_engine_says_so() -> None:
    """Closing twice is fine."""
    llm = LLM(str(target_path()), num_threads=1)
    llm.close()
    llm.close()

    with pytest.raises(EngineError, match="the engine is closed"):
        llm.generate("x")
