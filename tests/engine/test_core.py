"""The engine's loop on a tiny random model: exactness, batching, preemption, aborts."""

import random
import time
from types import SimpleNamespace

import pytest
import torch
from inline_engine import EOS, VOCAB_SIZE, run, run_deltas, submit
from transformers import AutoModelForCausalLM

from outrider.engine.errors import LoadError, RequestError
from outrider.engine.protocol import FinishReason, Submit

SAMPLED = {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "frequency_penalty": 0.3}


def prompts(count: int, seed: int = 0, longest: int = 60) -> list[list[int]]:
    """Random prompts of mixed length, the second half of each repeating the first, so that n-grams find something."""
    generator = random.Random(seed)
    halves = [[generator.randrange(2, VOCAB_SIZE) for _ in range(generator.randint(1, longest))] for _ in range(count)]
    return [half * 2 for half in halves]


def submits(count: int, **options) -> list[Submit]:
    return [submit(f"r{i}", prompt, seed=i, **options) for i, prompt in enumerate(prompts(count))]


def alone(core, items: list[Submit]) -> dict[str, list[int]]:
    return {item.request_id: run(core, [item])[item.request_id] for item in items}


def test_greedy_output_is_what_transformers_generates(make_core, tiny_folder) -> None:
    """The same tokens in float32, one request at a time and all together."""
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    expected = {}
    for index, prompt in enumerate(prompts(12)):
        ids = torch.tensor([prompt])
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, pad_token_id=0
        )
        expected[f"r{index}"] = output[0, len(prompt) :].tolist()
    core = make_core(dtype="float32")

    assert expected == run(core, submits(12))
    assert expected == alone(core, submits(12))


def test_a_model_that_loads_beside_a_running_one_harms_nobody(make_core) -> None:
    """While transformers reads weights it changes torch's default type for all threads; buffers say their own."""
    sampling = {**SAMPLED, "typical_p": 0.9, "repetition_penalty": 1.1, "logit_bias": {5: 1.7}, "ignore_eos": True}
    items = submits(6, **sampling)
    expected = run(make_core(dtype="float32"), items)
    core = make_core(dtype="float32")
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert expected == run(core, items)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sampling", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_batch_chunks_and_preemption_change_no_token(make_core, dtype, sampling) -> None:
    """Alone, together, with prompts split into small pieces, or preempted for want of blocks: the same bits."""
    items = submits(8, ignore_eos=True, **sampling)
    expected = alone(make_core(dtype=dtype), items)
    cramped = make_core(dtype=dtype, kv_memory_bytes=70_000 * (2 if dtype == "float32" else 1), max_num_seqs=8)

    assert expected == run(make_core(dtype=dtype), items)
    assert expected == run(make_core(dtype=dtype, max_num_batched_tokens=16, max_num_seqs=16), items)
    assert expected == run(cramped, items)
    assert cramped.stats().total_preemptions > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sampling", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_cached_prefixes_change_no_token(make_core, dtype, sampling) -> None:
    """Prompts that share beginnings of several blocks, drafted for and not: the same bits as with nothing cached."""
    common = prompts(1, seed=9, longest=60)[0] + list(range(2, 90))
    items = [
        submit(
            f"r{i}", common[: 40 + 8 * i] + prompt, seed=i, ignore_eos=True, methods=("ngram",) * (i % 2), **sampling
        )
        for i, prompt in enumerate(prompts(8, longest=20))
    ]
    expected = alone(make_core(dtype=dtype, prefix_caching=False), items)
    core, cramped = make_core(dtype=dtype), make_core(dtype=dtype, kv_memory_bytes=300_000, max_num_seqs=8)

    assert expected == alone(core, items)
    assert expected == run(core, items)
    assert expected == run(cramped, items)
    assert core.stats().total_cached_tokens > 500


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sampling", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_speculation_changes_no_token(make_core, dtype, sampling) -> None:
    """N-gram drafts, mixed in a batch with plain requests, give exactly the plain output, and drafts are accepted."""
    core = make_core(dtype=dtype)
    few_words = dict.fromkeys(range(2, 6), 60.0)  # so that n-grams repeat and some guesses are right
    options = {"max_tokens": 40, "ignore_eos": True, "logit_bias": few_words, **sampling}
    plain = run(core, submits(16, **options))
    mixed = [
        submit(f"r{i}", prompt, seed=i, methods=("ngram",) if i % 2 else (), **options)
        for i, prompt in enumerate(prompts(16))
    ]

    assert plain == run(core, mixed)
    assert core.stats().accepted_draft_tokens["ngram"] > 0


def test_speculation_stops_where_plain_decoding_stops(make_core) -> None:
    """An end inside an accepted run cuts it: stop tokens, the end token and the length limit."""
    core = make_core(dtype="float32")
    (first,) = run(core, [submit("a", [5, 6, 7], max_tokens=40, ignore_eos=True)]).values()
    stop = first[20]
    options = {"max_tokens": 40, "ignore_eos": True, "stop_token_ids": (stop,)}
    prompt = [5, 6, 7, *first, 5, 6, 7]

    plain = run_deltas(core, [submit("a", prompt, **options)])["a"]
    drafted = run_deltas(core, [submit("a", prompt, methods=("ngram",), **options)])["a"]

    assert plain[-1].finish_reason == drafted[-1].finish_reason
    assert [t for d in plain for t in d.token_ids] == [t for d in drafted for t in d.token_ids]


def test_an_aborted_request_leaves_nothing_behind(make_core) -> None:
    """Its blocks are free in the same moment, running or waiting, and others go on unchanged."""
    core = make_core(max_num_seqs=2)
    items = submits(3)
    expected = alone(core, items[:1])
    for item in items:
        core.add(item)
    deltas = core.step()
    used = core.blocks.num_used

    core.abort("r1")
    core.abort("r2")

    core.scheduler.check_integrity()
    assert core.blocks.num_used < used
    tokens = [token for delta in deltas if delta.request_id == "r0" for token in delta.token_ids]
    while core.has_work:
        tokens += [token for delta in core.step() for token in delta.token_ids]
    assert expected == {"r0": tokens}
    assert 0 == core.blocks.num_used


def test_a_request_goes_on_from_tokens_emitted_elsewhere(make_core) -> None:
    """Prompt and emitted tokens apart, the rest is exactly what an undisturbed run gives."""
    core = make_core()
    item = submit("a", prompts(1)[0], max_tokens=30, ignore_eos=True, seed=9, **SAMPLED)
    (whole,) = run(core, [item]).values()
    resumed = Submit(request_id="a", prompt_ids=item.prompt_ids, params=item.params, output_ids=whole[:11])

    assert {"a": whole[11:]} == run(core, [resumed])


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ([], {}, "no tokens"),
        ([5] * 250, {"max_tokens": 7}, "exceed the context of 256"),
        ([VOCAB_SIZE], {}, f"between 0 and {VOCAB_SIZE - 1}"),
        ([5], {"methods": ("psychic",)}, "`psychic` is not loaded"),
    ],
)
def test_what_can_never_be_served_is_refused(make_core, prompt, options, message) -> None:
    """Before anything is queued."""
    core = make_core()

    with pytest.raises(RequestError, match=message):
        core.add(submit("a", prompt, **options))
    assert not core.has_work


def test_a_request_whose_numbers_break_fails_alone(make_core) -> None:
    """NaN in one request's logits ends that request; its neighbour does not notice."""
    core = make_core(dtype="float32")
    items = submits(2)
    expected = alone(core, items)
    broken_row = submit("nan", [3], max_tokens=16)
    run_model = core._runner.run

    def run_with_nan(rows):
        output = run_model(rows)
        place = 0
        for row in rows:
            if row.reaches_end:
                if row.sequence.request_id == "nan":
                    output.logits[place] = float("nan")
                place += 1 + len(row.draft)
        return output

    core._runner.run = run_with_nan
    deltas = run_deltas(core, [*items, broken_row])

    assert FinishReason.ERROR is deltas["nan"][-1].finish_reason
    assert "the model's output is no number" in deltas["nan"][-1].error
    del deltas["nan"]
    assert expected == {name: [t for d in mine for t in d.token_ids] for name, mine in deltas.items()}


def test_prompt_logprobs_are_the_models(make_core, tiny_folder) -> None:
    """Of every token but the first, whatever is cached, in pieces, and when the request is preempted half way."""
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    every = [prompt[:100] for prompt in prompts(6, longest=45)]
    items = [
        submit(f"r{i}", prompt, num_prompt_logprobs=3, max_tokens=60, ignore_eos=True) for i, prompt in enumerate(every)
    ]
    cramped = make_core(dtype="float32", kv_memory_bytes=140_000, max_num_seqs=8)
    for core in (make_core(dtype="float32"), make_core(dtype="float32", max_num_batched_tokens=64), cramped):
        run(core, [submit("before", every[0])])  # its keys and values are in the cache
        deltas = run_deltas(core, items)

        for index, prompt in enumerate(every):
            with torch.inference_mode():
                values = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
            first, *later = deltas[f"r{index}"]
            assert not any(delta.prompt_logprobs for delta in later)
            assert len(first.prompt_logprobs) == len(prompt) - 1
            for place, found in enumerate(first.prompt_logprobs):
                assert found.drawn == pytest.approx(float(values[place, prompt[place + 1]]), abs=1e-4)
                assert found.top == pytest.approx(values[place].topk(3).values.tolist(), abs=1e-4)
    assert cramped.stats().total_preemptions > 0


def test_a_request_that_forbids_every_token_fails_alone(make_core) -> None:
    """It ends with an error instead of a token that it forbade."""
    core = make_core()
    nothing = dict.fromkeys(range(VOCAB_SIZE), float("-inf"))

    (delta,) = run_deltas(core, [submit("a", [5], logit_bias=nothing, temperature=1.0)])["a"]

    assert (FinishReason.ERROR, []) == (delta.finish_reason, delta.token_ids)


def test_a_request_whose_time_is_over_ends_as_it_is(make_core, monkeypatch) -> None:
    """It frees what it held in the same step; one that never started ends too, and others go on."""
    core = make_core(max_num_seqs=2)
    now = [100.0]
    monkeypatch.setattr("outrider.engine.core.time", SimpleNamespace(monotonic=lambda: now[0]))
    for name, max_time in (("short", 2.5), ("long", None), ("waiting", 2.0)):
        core.add(submit(name, [5, 6, 7], max_tokens=8, ignore_eos=True, max_time=max_time))
    deltas = []
    while core.has_work:
        deltas += core.step()
        core.scheduler.check_integrity()
        now[0] += 1.0

    answers = {name: [d for d in deltas if d.request_id == name] for name in ("short", "long", "waiting")}
    assert [sum(len(d.token_ids) for d in mine) for mine in answers.values()] == [3, 8, 0]
    assert {mine[-1].finish_reason for mine in answers.values()} == {FinishReason.LENGTH}
    assert core.blocks.num_used == 0


def test_figures_tell_where_the_time_went(make_core) -> None:
    """They come with the first token and with the last, and only there."""
    core = make_core()
    deltas = run_deltas(core, [submit("a", prompts(1)[0], max_tokens=20, ignore_eos=True, methods=("ngram",))])["a"]

    assert [None] * (len(deltas) - 2) == [delta.figures for delta in deltas[1:-1]]
    first, figures = deltas[0].figures, deltas[-1].figures
    assert first is not None
    assert (first.decode_seconds, first.token_gaps) == (0.0, None)
    assert figures is not None
    assert figures.num_steps == len(deltas)
    assert figures.num_chunks == 1
    assert figures.token_gaps is not None
    assert 0 < figures.token_gaps.median <= figures.token_gaps.percentile_99 <= figures.token_gaps.longest
    assert min(figures.queue_seconds, figures.prefill_seconds, figures.decode_seconds) >= 0
    for counts in figures.speculation:
        assert counts.num_accepted_tokens == sum(j * n for j, n in enumerate(counts.acceptance_histogram))


def test_figures_tell_each_wait(make_core) -> None:
    """One for the arrival and one for each preemption, in their order; a prompt in pieces tells how many."""
    core = make_core(dtype="float32", kv_memory_bytes=140_000, max_num_seqs=8, max_num_batched_tokens=16)
    submits = [submit(f"r{index}", list(range(2, 42)), max_tokens=40, ignore_eos=True) for index in range(8)]
    figures = [deltas[-1].figures for deltas in run_deltas(core, submits).values()]

    assert core.stats().total_preemptions > 0
    assert [1 + one.num_preemptions for one in figures] == [len(one.waits) for one in figures]
    for one in figures:
        marks = [mark for wait in one.waits for mark in wait]
        assert marks == sorted(marks)
        assert (0.0, one.queue_seconds) == one.waits[0]
        assert one.num_chunks >= 3 or one.num_cached_tokens > 0
    assert list(range(8)) == [one.num_waiting for one in figures]
    assert all(abs(time.time() - one.arrived_at) < 60 for one in figures)


def test_the_end_token_ends_a_request(make_core) -> None:
    """Unless the request ignores it."""
    core = make_core()
    bias = {EOS: 100.0}

    stopped = run_deltas(core, [submit("a", [5], logit_bias=bias)])["a"]
    ignored = run_deltas(core, [submit("a", [5], logit_bias=bias, ignore_eos=True, max_tokens=3)])["a"]

    assert ([[EOS]], FinishReason.STOP) == ([delta.token_ids for delta in stopped], stopped[-1].finish_reason)
    assert ([[EOS]] * 3, FinishReason.LENGTH) == ([delta.token_ids for delta in ignored], ignored[-1].finish_reason)


def test_a_cache_smaller_than_one_request_is_refused(make_core) -> None:
    """The line names what to change and to what."""
    with pytest.raises(
        LoadError, match=r"--kv-memory 1000 holds 0 tokens, fewer than one request of 256: give the cache 131072"
    ):
        make_core(kv_memory_bytes=1000)


def test_a_context_beyond_the_models_own_is_refused(make_core) -> None:
    """It would be noise."""
    with pytest.raises(LoadError, match="--max-model-len 257 is more than the model's own context of 256"):
        make_core(max_model_len=257)
