"""What is sent and when: samples, the request made of each, and the jobs of a run. Knows nothing of sockets."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice

import msgspec

from outrider.loadtest.arrival import arrival_offsets, ramp_offsets, stage_offsets
from outrider.loadtest.config import DEFAULT_NUM_PROMPTS, TRACES, LoadtestConfig
from outrider.loadtest.datasets import Tasks, samples, seeded
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.job import Job, Offer, bearer
from outrider.loadtest.sample import Sample, json_schema_format
from outrider.loadtest.trace import trace_samples


@dataclass(frozen=True, slots=True)
class Workload:
    """All samples in the order of their arrival, of which the first `num_warmups` are not measured.

    `num_repeated` of them repeat an earlier prompt. `offsets` are seconds from the start, one for each sample.
    """

    samples: tuple[Sample, ...]
    offsets: tuple[float, ...]
    num_warmups: int
    num_repeated: int

    @property
    def num_requests(self) -> int:
        """Measured ones, with all turns of conversations."""
        return sum(1 + len(sample.turns) for sample in self.samples[self.num_warmups :])


def load_workload(config: LoadtestConfig, tasks: Tasks | None = None) -> Workload:
    """Warm-up prompts are others than the measured ones, which a prefix cache would otherwise know already.

    Raises:
        InvalidOptionError: the dataset is unusable, or nothing would be sent.
    """
    if config.follows_trace:
        return _replay(config, tasks)
    if config.stages:
        offsets = stage_offsets(config.stages, config.burstiness, config.seed)
        offsets = offsets[: config.num_warmups + config.num_prompts] if config.num_prompts else offsets
        if len(offsets) <= config.num_warmups:
            raise InvalidOptionError("--stages: nothing arrives in this time beside the warm-ups")
    else:
        total = config.num_warmups + (config.num_prompts or DEFAULT_NUM_PROMPTS)
        if config.ramp is not None:
            offsets = ramp_offsets(total, config.ramp, config.burstiness, config.seed)
        else:
            offsets = arrival_offsets(total, config.request_rate, config.burstiness, config.seed)
    found = list(islice(_drawn(config, tasks), len(offsets)))
    complete = _decorated(config, islice(cycle(found), len(offsets)))
    return Workload(tuple(complete), tuple(offsets), config.num_warmups, len(offsets) - len(found))


def request_body(sample: Sample, config: LoadtestConfig, model: str) -> bytes:
    """The JSON body; of two that set a field, the later wins: options, the sample's own extra_body, --extra-body.

    A field that is null is left out.
    """
    body: dict[str, object] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    if config.is_chat:
        body["messages"] = sample.messages
        body["max_completion_tokens"] = sample.max_tokens
        body["response_format"] = sample.response_format
        body["tools"] = sample.tools or None
    else:
        body["prompt"] = sample.messages[0]["content"]
        body["max_tokens"] = sample.max_tokens
    body["temperature"] = config.temperature
    # Forced lengths are the point of made-up prompts, as in vLLM.
    is_made_up = sample.kind in {"random", "prefix_repetition", *TRACES}
    body["ignore_eos"] = True if config.ignore_eos or is_made_up else None
    if config.speculation is not None:
        # Only a server that knows `speculation` knows these fields; it reports what was drafted and accepted.
        body |= {"return_metrics": True, "return_token_origins": True}
    merged = body | sample.extra_body | config.extra_body
    return msgspec.json.encode({name: value for name, value in merged.items() if value is not None})


def make_offer(config: LoadtestConfig, workload: Workload, model: str, api_key: str | None) -> Offer:
    """The jobs of a run. The burst has no earlier and later: its warm-ups are an offer of their own."""
    keys = config.api_keys.draws(f"keys {config.seed}") if config.api_keys else None
    jobs = tuple(
        Job(
            body=request_body(sample, config, model),
            index=index,
            offset=offset,
            headers=bearer(next(keys)) if keys else {},
            turns=sample.turns,
            is_warmup=index < workload.num_warmups,
        )
        for index, (sample, offset) in enumerate(zip(workload.samples, workload.offsets, strict=True))
    )
    return Offer(
        url=config.url,
        jobs=jobs,
        is_closed_loop=config.is_closed_loop,
        max_concurrency=config.max_concurrency,
        api_key=api_key,
        headers=dict(config.headers),
        is_insecure=config.is_insecure,
    )


def speculation_field(name: str) -> object:
    """The request's field: one word, or of `a+b` the long form."""
    return {"methods": name.split("+")} if "+" in name else name


def _replay(config: LoadtestConfig, tasks: Tasks | None) -> Workload:
    if config.dataset_name in TRACES:
        found = trace_samples(config)
    else:
        found = sorted(samples(config, config.dataset_name, tasks), key=lambda sample: sample.offset or 0.0)
        first = found[0].offset or 0.0
        found = [replace(sample, offset=(sample.offset or 0.0) - first) for sample in found]
    if config.num_prompts is not None:
        found = found[: config.num_warmups + config.num_prompts]
    if len(found) <= config.num_warmups:
        raise InvalidOptionError(f"--num-warmups {config.num_warmups}: the trace has only {len(found)} requests")
    offsets = tuple(sample.offset or 0.0 for sample in found)
    return Workload(tuple(_decorated(config, iter(found))), offsets, config.num_warmups, 0)


def _drawn(config: LoadtestConfig, tasks: Tasks | None) -> Iterator[Sample]:
    """One dataset, or several in turn by their weights; one of a mixture that is at its end begins again."""
    if config.mix is None:
        yield from samples(config, config.dataset_name, tasks)
        return
    sources = {name: samples(config, name, tasks) for name in config.mix.names}
    for name in config.mix.draws(f"mix {config.seed}"):
        sample = next(sources[name], None)
        if sample is None:
            sources[name] = samples(config, name, tasks)
            sample = next(sources[name])
        yield sample


def _decorated(config: LoadtestConfig, found: Iterator[Sample]) -> Iterator[Sample]:
    """With what the options say of every request, or draw for each."""
    generator = seeded(config, "options")
    speculations = config.speculation.draws(f"speculation {config.seed}") if config.speculation else None
    priorities = config.priority.draws(f"priority {config.seed}") if config.priority else None
    for sample in found:
        extra: dict[str, object] = {}
        variant = next(speculations) if speculations else None
        if variant is not None:
            extra["speculation"] = speculation_field(variant)
        if priorities is not None:
            extra["priority"] = int(next(priorities))
        schema = sample.schema if sample.schema is not None else config.schema
        is_enforced = schema is not None and generator.random() < config.structured_output_ratio
        turns = sample.turns
        if config.think_time:
            turns = tuple(replace(turn, think_time=generator.expovariate(1 / config.think_time)) for turn in turns)
        yield replace(
            sample,
            max_tokens=config.output_len or sample.max_tokens,
            response_format=json_schema_format(schema) if schema is not None and is_enforced else None,
            schema=schema,
            extra_body=extra | sample.extra_body,
            turns=turns,
            variant=variant,
        )
