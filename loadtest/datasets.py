"""Where samples come from: made here, or lines of a file. Knows nothing of requests."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.job import Turn
from outrider.loadtest.sample import Sample
from outrider.loadtest.validity import check_schema
from outrider.loadtest.words import near, words

CHARACTERS_PER_TOKEN = 4
"""Of English text, about: what a recorded answer's length is taken for where no --output-len is given."""

Tasks = Callable[[int], Iterator[Sample]]
"""The dataset `demo`, endless: who runs the load test brings it. Takes a seed."""


def samples(config: LoadtestConfig, name: str, tasks: Tasks | None) -> Iterator[Sample]:
    """Of one dataset; raises InvalidOptionError, which names the line, for a file that is none."""
    if name == "demo":
        assert tasks is not None, "the demo dataset is given by the caller"
        return tasks(config.seed)
    return {
        "random": _random,
        "prefix_repetition": _prefix_repetition,
        "jsonl": _jsonl,
        "custom": _jsonl,
        "sharegpt": _sharegpt,
    }[name](config)


def read_lines(path: Path) -> list[tuple[str, bytes]]:
    """Those that are not blank, each with its place for an error message."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidOptionError(f"--dataset-path {path}: {error.strerror}") from error
    lines = [(f"{path} line {number}", line) for number, line in enumerate(data.splitlines(), start=1) if line.strip()]
    if not lines:
        raise InvalidOptionError(f"--dataset-path {path}: no lines")
    return lines


def seeded(config: LoadtestConfig, purpose: str = "") -> random.Random:
    """A stream of its own for each purpose."""
    return random.Random(f"{purpose}{config.seed}")  # noqa: S311 (reproducible, not secret)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a jsonl dataset."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    turns: list[str] = []
    output_tokens: int | None = None
    extra_body: dict[str, object] = {}
    schema: dict[str, Any] | bool | None = None
    tools: list[dict[str, Any]] = []
    kind: str = ""
    timestamp: float | None = None


class _Said(msgspec.Struct):
    speaker: str = msgspec.field(name="from")
    value: str


class _Dialogue(msgspec.Struct):
    """An entry of a ShareGPT file."""

    conversations: list[_Said] = []


def _random(config: LoadtestConfig) -> Iterator[Sample]:
    generator = seeded(config)
    prefix = words(generator, config.random_prefix_len)
    while True:
        text = words(generator, near(generator, config.random_input_len, config.random_range_ratio))
        length = near(generator, config.random_output_len, config.random_range_ratio)
        yield Sample.from_prompt(f"{prefix} {text}".strip(), length, kind="random")


def _prefix_repetition(config: LoadtestConfig) -> Iterator[Sample]:
    generator = seeded(config)
    lengths = config.prefix_repetition_prefix_len, config.prefix_repetition_suffix_len
    prefixes = [words(generator, lengths[0]) for _ in range(config.prefix_repetition_num_prefixes)]
    while True:
        prompt = f"{generator.choice(prefixes)} {words(generator, lengths[1])}"
        yield Sample.from_prompt(prompt, config.prefix_repetition_output_len, kind="prefix_repetition")


def _jsonl(config: LoadtestConfig) -> Iterator[Sample]:
    assert config.dataset_path is not None
    for place, data in read_lines(config.dataset_path):
        try:
            line = msgspec.json.decode(data, type=_Line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidOptionError(f"{place}: {error}") from error
        if (line.prompt is None) == (line.messages is None):
            raise InvalidOptionError(f"{place}: give either prompt or messages")
        if not config.is_chat and (line.messages is not None or line.turns or line.tools):
            raise InvalidOptionError(f"{place}: messages need --endpoint /v1/chat/completions; here, give prompt")
        if config.self_timed and line.timestamp is None:
            raise InvalidOptionError(f"{place}: --self-timed needs a timestamp, in seconds")
        if line.schema is not None:
            check_schema(line.schema, place)
        yield Sample(
            messages=line.messages or [{"role": "user", "content": line.prompt}],
            max_tokens=line.output_tokens,
            tools=line.tools,
            extra_body=line.extra_body,
            turns=tuple(Turn(text) for text in line.turns),
            kind=line.kind or "jsonl",
            schema=line.schema,
            offset=line.timestamp,
        )


def _sharegpt(config: LoadtestConfig) -> Iterator[Sample]:
    """The first question of each dialogue, or with --multi-turn all of them; the answers are the server's."""
    assert config.dataset_path is not None
    path = config.dataset_path
    try:
        dialogues = msgspec.json.decode(path.read_bytes(), type=list[_Dialogue])
    except OSError as error:
        raise InvalidOptionError(f"--dataset-path {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidOptionError(f"--dataset-path {path}: not a ShareGPT file ({error})") from error
    found = False
    for dialogue in dialogues:
        asked = [said.value for said in dialogue.conversations if said.speaker in {"human", "user"}]
        answers = [said.value for said in dialogue.conversations if said.speaker in {"gpt", "assistant"}]
        if asked and answers:
            found = True
            turns = tuple(Turn(text) for text in asked[1:]) if config.multi_turn and config.is_chat else ()
            yield Sample.from_prompt(
                asked[0], len(answers[0]) // CHARACTERS_PER_TOKEN + 1, turns=turns, kind="sharegpt"
            )
    if not found:
        raise InvalidOptionError(f"--dataset-path {path}: no dialogue has a question and an answer")
