"""What `outrider train` learns from and measures on: files of the user, answers of the target, the demo recipe."""

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from outrider.cli import options

if TYPE_CHECKING:
    from outrider.speculative.training.samples import BadLine, Prompt, Reader, Sample
    from outrider.speculative.training.target import Target

_MOST_REPORTED_LINES = 20


@dataclass(frozen=True, slots=True)
class Source:
    """Where samples come from, as the command line says it; `max_length` is in tokens."""

    data: Path | None
    self_generate: int | None
    is_demo: bool
    max_length: int
    template_arguments: str


def parse_arguments(text: str) -> dict[str, Any]:
    """The keywords for the chat template."""
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        options.fail(f"--chat-template-kwargs {text} is not a JSON object")
    return arguments


def read_samples(teacher: "Target", source: Source, out: Path, seed: int) -> "list[Sample]":
    """From the file, from the target's answers to the file's prompts, or to prompts of its own.

    Answers are kept in `out`.
    """
    from rich.progress import Progress

    from outrider.speculative.training.answers import ANSWERS_FILE, answer
    from outrider.speculative.training.samples import Reader

    reader = Reader(teacher.tokenizer, parse_arguments(source.template_arguments))
    max_length = min(source.max_length, teacher.max_length)
    if source.self_generate is None:
        assert source.data is not None
        bad = BadLines(source.data)
        samples = reader.samples(source.data, max_length, bad.report)
        bad.summarise()
        return samples
    prompts = _prompts(teacher, reader, source, seed, max_length)
    with Progress(transient=True) as progress:
        task = progress.add_task("The target answers", total=len(prompts))
        return answer(
            teacher,
            prompts,
            out / ANSWERS_FILE,
            seed=seed,
            max_length=max_length,
            on_answers=lambda count: progress.advance(task, count),
        )


def read_prompts(teacher: "Target", source: Source, num_prompts: int) -> "list[Prompt]":
    """At most `num_prompts` prompts of each kind: of the file, or held-out ones of the demo recipe."""
    from outrider.speculative.training.samples import Reader

    reader = Reader(teacher.tokenizer, parse_arguments(source.template_arguments))
    if source.data is not None:
        bad = BadLines(source.data)
        counts: Counter[str] = Counter()
        chosen = []
        for prompt in reader.prompts(source.data, source.max_length, bad.report):
            counts[prompt.kind] += 1
            if counts[prompt.kind] <= num_prompts:
                chosen.append(prompt)
        bad.summarise()
        if not chosen:
            options.fail(f"`{source.data}` has no prompt")
        return chosen
    if not source.is_demo:
        options.fail("no prompts to measure on: pass --data FILE")
    from outrider.demo.recipe.mixture import held_out_records

    return [reader.parse_prompt(line) for line in held_out_records(num_prompts)]


@dataclass(slots=True)
class BadLines:
    """Prints lines that were left out; beyond a few only their number."""

    path: Path
    number: int = 0
    lines: list["BadLine"] = field(default_factory=list)

    def report(self, bad: "BadLine") -> None:
        """One line of the file."""
        self.number += 1
        if self.number <= _MOST_REPORTED_LINES:
            typer.echo(f"{self.path}:{bad.number}: left out: {bad.reason}", err=True)

    def summarise(self) -> None:
        """What was not printed."""
        if self.number > _MOST_REPORTED_LINES:
            typer.echo(f"{self.path}: {self.number} lines left out", err=True)


def _prompts(teacher: "Target", reader: "Reader", source: Source, seed: int, max_length: int) -> "list[Prompt]":
    """At most as many as the target shall answer."""
    import torch

    from outrider.speculative.training.samples import Prompt

    assert source.self_generate is not None
    if source.data is not None:
        bad = BadLines(source.data)
        prompts = reader.prompts(source.data, max_length, bad.report)[: source.self_generate]
        bad.summarise()
        if not prompts:
            options.fail(f"`{source.data}` has no prompt")
        return prompts
    if source.is_demo:
        from outrider.demo.recipe.mixture import examples, record

        chosen = (example for example in examples(seed) if example.kind != "story")
        return [reader.parse_prompt(record(example)) for example in itertools.islice(chosen, source.self_generate)]
    torch.manual_seed(seed)
    return [Prompt(ids, "self") for ids in teacher.write_prompts(source.self_generate)]
