"""Recorded traffic: when requests came and how long they were, with prompts made up to match."""

import random
from dataclasses import replace

import msgspec

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.datasets import read_lines, seeded
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.sample import Sample
from outrider.loadtest.words import words

MOONCAKE_CHUNK = 512
MOONCAKE_SECONDS = 0.001
DEFAULT_CHUNK = 16


class _Arrival(msgspec.Struct):
    """A line: Mooncake's fields, which other traces share."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int] = []


def trace_samples(config: LoadtestConfig) -> list[Sample]:
    """In the order of their times, the first at 0. Equal `hash_ids` become equal words, as in the recorded prompts.

    Raises:
        InvalidOptionError: names the line that is none.
    """
    assert config.dataset_path is not None
    is_mooncake = config.dataset_name == "mooncake"
    chunk = config.trace_chunk or (MOONCAKE_CHUNK if is_mooncake else DEFAULT_CHUNK)
    seconds = config.trace_seconds or (MOONCAKE_SECONDS if is_mooncake else 1.0)
    generator = seeded(config, "trace")
    arrivals: list[tuple[float, Sample]] = []
    for place, data in read_lines(config.dataset_path):
        try:
            line = msgspec.json.decode(data, type=_Arrival)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidOptionError(f"{place}: {error}") from error
        if line.timestamp < 0 or line.input_length < 1 or line.output_length < 1:
            raise InvalidOptionError(f"{place}: timestamps must not be negative, and lengths at least 1")
        prompt = _prompt(line, chunk, generator, config.seed)
        arrivals.append(
            (line.timestamp * seconds, Sample.from_prompt(prompt, line.output_length, kind=config.dataset_name))
        )
    arrivals.sort(key=lambda arrival: arrival[0])
    first = arrivals[0][0]
    return [replace(sample, offset=at - first) for at, sample in arrivals]


def _prompt(line: _Arrival, chunk: int, generator: random.Random, seed: int) -> str:
    """Words of each hashed chunk by its id, so that common beginnings are common again; the rest is drawn."""
    blocks = [words(random.Random(f"chunk {seed} {each}"), chunk) for each in line.hash_ids]  # noqa: S311
    named = " ".join(blocks).split()[: line.input_length]
    rest = words(generator, line.input_length - len(named))
    return " ".join([*named, rest]).strip()
