"""Offline throughput and latency of the engine, beside transformers' `generate` on the same checkpoint in the same run.

Every request has the same number of random prompt tokens and generates the same number, greedily, so that both sides do
the same work: transformers as one static batch, the engine by its own scheduling. Rounds alternate between the two,
because a shared machine's speed drifts; medians are compared.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.protocol import SamplingParams, Submit


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one request alone, in milliseconds: the median and the 99th percentile over all rounds."""

    num_threads: int
    first_token: tuple[float, float]
    per_token: tuple[float, float]  # of one token behind another
    whole: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ThroughputRow:
    """Output tokens per second at one concurrency: the median of the rounds, and each round."""

    concurrency: int
    num_threads: int
    engine: float
    transformers: float | None
    ratio: float | None  # engine / transformers
    engine_rounds: tuple[float, ...]
    transformers_rounds: tuple[float, ...]


def measure_throughput(
    config: EngineConfig,
    *,
    input_len: int,
    output_len: int,
    concurrencies: Sequence[int],
    num_rounds: int,
    with_transformers: bool,
    on_round: Callable[[], None] = lambda: None,
) -> list[ThroughputRow]:
    """Measures each concurrency for `num_rounds` rounds after a warm-up; `on_round` is called after each.

    Raises:
        LoadError: the checkpoint cannot be served.
    """
    core = EngineCore(config)
    reference = _load_reference(core.folder, core.dtype) if with_transformers else None
    rows: list[ThroughputRow] = []
    for concurrency in concurrencies:
        prompts = _random_prompts(concurrency, input_len, core.vocab_size)
        engine_rounds: list[float] = []
        reference_rounds: list[float] = []
        for number in range(num_rounds + 1):
            engine_rate = concurrency * output_len / _run_engine(core, prompts, output_len)
            reference_rate = (
                concurrency * output_len / _run_reference(reference, prompts, output_len) if reference else None
            )
            if number > 0:  # the first round warms both up
                engine_rounds.append(engine_rate)
                reference_rounds += [] if reference_rate is None else [reference_rate]
            on_round()
        rows.append(_row(concurrency, torch.get_num_threads(), engine_rounds, reference_rounds))
    return rows


def measure_latency(
    config: EngineConfig,
    *,
    input_len: int,
    output_len: int,
    num_rounds: int,
    on_round: Callable[[], None] = lambda: None,
) -> Latency:
    """Measures one request at a time for `num_rounds` rounds after a warm-up; `on_round` is called after each.

    Raises:
        LoadError: the checkpoint cannot be served.
    """
    core = EngineCore(config)
    (prompt,) = _random_prompts(1, input_len, core.vocab_size)
    first: list[float] = []
    gaps: list[float] = []
    whole: list[float] = []
    for number in range(num_rounds + 1):
        times = _run_one(core, prompt, output_len)
        if number > 0:  # the first round warms up
            first.append(times[0])
            gaps += [later - earlier for earlier, later in pairwise(times)]
            whole.append(times[-1])
        on_round()
    return Latency(torch.get_num_threads(), _percentiles(first), _percentiles(gaps), _percentiles(whole))


def _run_one(core: EngineCore, prompt: list[int], output_len: int) -> list[float]:
    """Milliseconds from the start to each token."""
    params = SamplingParams(seed=0, max_tokens=output_len, temperature=0.0, ignore_eos=True)
    started = time.perf_counter()
    core.add(Submit(request_id="0", prompt_ids=prompt, params=params))
    times: list[float] = []
    while core.has_work:
        for delta in core.step():
            times += [1000 * (time.perf_counter() - started)] * len(delta.token_ids)
    assert len(times) == output_len
    return times


def _percentiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return (statistics.median(values or [0.0]),) * 2
    return statistics.median(values), statistics.quantiles(values, n=100, method="inclusive")[98]


def _row(
    concurrency: int, num_threads: int, engine_rounds: list[float], reference_rounds: list[float]
) -> ThroughputRow:
    engine = statistics.median(engine_rounds)
    reference = statistics.median(reference_rounds) if reference_rounds else None
    ratio = None if reference is None else engine / reference
    return ThroughputRow(
        concurrency, num_threads, engine, reference, ratio, tuple(engine_rounds), tuple(reference_rounds)
    )


def _random_prompts(count: int, length: int, vocab_size: int) -> list[list[int]]:
    generator = random.Random(0)  # noqa: S311 - a workload, not a secret
    return [[generator.randrange(vocab_size) for _ in range(length)] for _ in range(count)]


def _run_engine(core: EngineCore, prompts: list[list[int]], output_len: int) -> float:
    """Seconds to generate for all prompts at once."""
    params = SamplingParams(seed=0, max_tokens=output_len, temperature=0.0, ignore_eos=True)
    started = time.perf_counter()
    for index, prompt in enumerate(prompts):
        core.add(Submit(request_id=str(index), prompt_ids=prompt, params=params))
    num_tokens = 0
    while core.has_work:
        num_tokens += sum(len(delta.token_ids) for delta in core.step())
    seconds = time.perf_counter() - started
    assert num_tokens == len(prompts) * output_len
    return seconds


def _load_reference(folder: str, dtype: torch.dtype) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
    return model


def _run_reference(model: PreTrainedModel, prompts: list[list[int]], output_len: int) -> float:
    """Seconds of one `generate` call on the whole batch; prompts have one length, so there is no padding."""
    ids = torch.tensor(prompts)
    started = time.perf_counter()
    with torch.inference_mode():
        output = model.generate(  # type: ignore[operator]  # a mixin that torch's Module hides
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=output_len,
            max_new_tokens=output_len,
            pad_token_id=0,
        )
    seconds = time.perf_counter() - started
    assert output.shape[1] == ids.shape[1] + output_len
    return seconds
