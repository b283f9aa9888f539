"""Samples that the target writes itself, kept in a file as they come.

Owns the file: its first line says what the answers belong to, each other line is one answer. A run that was stopped
goes on behind the last whole chunk; answers of another target or to other prompts are refused.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch

from outrider.speculative.training.samples import Prompt, Sample
from outrider.speculative.training.target import Target

ANSWERS_FILE: Final = "samples.jsonl"
_CHUNK: Final = 64


def answer(
    target: Target,
    prompts: Sequence[Prompt],
    path: Path,
    *,
    seed: int,
    max_new_tokens: int = 512,
    max_length: int = 2048,
    on_answers: Callable[[int], None] = lambda _: None,
) -> list[Sample]:
    """The target's answers to the prompts: every other one greedy, the others at temperature 0.8.

    Speculators that learn from the target's own words guess them better than those that learn from other people's.

    Raises:
        ValueError: the file holds answers of another target, or to other prompts.
        OSError: the file cannot be read or written.
    """
    identity = [target.fingerprint, seed, max_new_tokens, [prompt.token_ids for prompt in prompts]]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    samples = _reread(path, digest, len(prompts))
    on_answers(len(samples))
    for first in range(len(samples), len(prompts), _CHUNK):
        # A chunk has a seed of its own: a run that goes on draws what an unbroken one draws.
        torch.manual_seed(seed * 1_000_003 + first)
        chunk = prompts[first : first + _CHUNK]
        answers: list[list[int]] = [[] for _ in chunk]
        for parity, temperature in ((0, 0.0), (1, 0.8)):
            asked = [prompt.token_ids for prompt in chunk[parity::2]]
            answers[parity::2] = target.generate(asked, max_new_tokens, temperature=temperature)
        written = [
            Sample([*prompt.token_ids, *said], [False] * len(prompt.token_ids) + [True] * len(said), prompt.kind)
            for prompt, said in zip(chunk, answers, strict=True)
        ]
        _append(path, written)
        samples += written
        on_answers(len(written))
    return [cut for cut in (sample.cut(max_length) for sample in samples) if cut.is_of_use]


def _reread(path: Path, digest: str, count: int) -> list[Sample]:
    """The whole chunks in the file, of `count` answers; afterwards it has nothing else, and exists."""
    header = json.dumps({"answers_of": digest})
    lines = path.read_text().split("\n")[:-1] if path.exists() else []  # a line without an end was not finished
    if lines and lines[0] != header:
        raise ValueError(f"`{path}` holds answers of another target or to other prompts: remove it to start anew")
    samples: list[Sample] = []
    for line in lines[1:]:
        record = json.loads(line)
        samples.append(Sample(record["ids"], [bool(flag) for flag in record["learned"]], record["kind"]))
    whole = len(samples) if len(samples) == count else len(samples) - len(samples) % _CHUNK
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(header + "\n")
    _append(scratch, samples[:whole])
    scratch.replace(path)
    return samples[:whole]


def _append(path: Path, samples: Sequence[Sample]) -> None:
    with path.open("a") as file:
        for sample in samples:
            learned = [int(flag) for flag in sample.learned]
            file.write(json.dumps({"ids": sample.token_ids, "learned": learned, "kind": sample.kind}) + "\n")
