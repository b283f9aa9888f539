"""What is sent: samples from a dataset, and the request body made of each. Knows nothing of when, or of sockets."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import msgspec

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.demo_prompts import COMMON_WORDS, demo_prompts
from outrider.loadtest.errors import InvalidOptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One prompt. `response_format` applies to chat only: /v1/completions has no such field."""

    messages: list[dict[str, object]]
    max_tokens: int | None = None
    response_format: dict[str, object] | None = None
    extra_body: dict[str, object] = field(default_factory=dict)

    @classmethod
    def from_prompt(cls, prompt: str, max_tokens: int, response_format: dict[str, object] | None = None) -> "Sample":
        """Chat with a single message."""
        message: dict[str, object] = {"role": "user", "content": prompt}
        return cls(messages=[message], max_tokens=max_tokens, response_format=response_format)


@dataclass(frozen=True, slots=True)
class Workload:
    """The bodies to send, in order; `num_repeated` of them repeat an earlier prompt, warm-ups included."""

    warmups: tuple[Sample, ...]
    samples: tuple[Sample, ...]
    num_repeated: int


def load_workload(config: LoadtestConfig) -> Workload:
    """Warm-up prompts are others than the measured ones, which a prefix cache would otherwise know already."""
    datasets = {"demo": _demo, "random": _random, "jsonl": _jsonl}
    total = config.num_warmups + config.num_prompts
    samples = list(islice(datasets[config.dataset_name](config), total))
    missing = total - len(samples)
    samples = list(islice(cycle(samples), total))
    return Workload(tuple(samples[: config.num_warmups]), tuple(samples[config.num_warmups :]), missing)


def request_body(sample: Sample, config: LoadtestConfig, model: str) -> bytes:
    """The JSON body; of two that set a field, the later wins: options, the sample's own extra_body, --extra-body."""
    body: dict[str, object] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    if config.is_chat:
        body["messages"] = sample.messages
        body["max_completion_tokens"] = sample.max_tokens
        body["response_format"] = sample.response_format
    else:
        body["prompt"] = _as_completion_prompt(sample)
        body["max_tokens"] = sample.max_tokens
    body["temperature"] = config.temperature
    # Forced lengths are the point of random prompts, as in vLLM.
    body["ignore_eos"] = True if config.ignore_eos or config.dataset_name == "random" else None
    body["speculation"] = config.speculation
    # Only a server that knows `speculation` knows this field; it reports what was drafted and accepted.
    body["return_metrics"] = True if config.speculation is not None else None
    given = {name: value for name, value in body.items() if value is not None}
    return msgspec.json.encode(given | sample.extra_body | config.extra_body)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a jsonl dataset."""

    prompt: str | None = None
    messages: list[dict[str, object]] | None = None
    output_tokens: int | None = None
    extra_body: dict[str, object] = {}


def _demo(config: LoadtestConfig) -> Iterator[Sample]:
    return (
        Sample.from_prompt(prompt.text, prompt.max_tokens, prompt.response_format)
        for prompt in demo_prompts(_generator(config))
    )


def _random(config: LoadtestConfig) -> Iterator[Sample]:
    """Lengths are in common English words, about a token each: exact ones would need the tokenizer."""
    generator = _generator(config)
    while True:
        words = generator.choices(COMMON_WORDS, k=config.random_input_len)
        yield Sample.from_prompt(" ".join(words), config.random_output_len)


def _jsonl(config: LoadtestConfig) -> Iterator[Sample]:
    assert config.dataset_path is not None
    lines = _read_lines(config.dataset_path)
    if not lines:
        raise InvalidOptionError(f"--dataset-path {config.dataset_path}: no lines")
    for number, data in lines:
        place = f"{config.dataset_path} line {number}"
        try:
            line = msgspec.json.decode(data, type=_Line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidOptionError(f"{place}: {error}") from error
        if (line.prompt is None) == (line.messages is None):
            raise InvalidOptionError(f"{place}: give either prompt or messages")
        messages = line.messages or [{"role": "user", "content": line.prompt}]
        sample = Sample(messages=messages, max_tokens=line.output_tokens, extra_body=line.extra_body)
        if not config.is_chat and line.messages is not None:
            raise InvalidOptionError(f"{place}: messages need --endpoint /v1/chat/completions; here, give prompt")
        yield sample


def _read_lines(path: Path) -> list[tuple[int, bytes]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidOptionError(f"--dataset-path {path}: {error.strerror}") from error
    return [(number, line) for number, line in enumerate(data.splitlines(), start=1) if line.strip()]


def _as_completion_prompt(sample: Sample) -> object:
    return sample.messages[0]["content"]


def _generator(config: LoadtestConfig) -> random.Random:
    return random.Random(config.seed)  # noqa: S311 (reproducible, not secret)
