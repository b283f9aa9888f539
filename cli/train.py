"""`outrider train`: speculators for a target, and how many tokens they let a step emit."""

import contextlib
import itertools
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.cli import options

if TYPE_CHECKING:
    from outrider.speculative.training.evaluation import Drafter
    from outrider.speculative.training.loop import Objective, Plan, Progress, Run
    from outrider.speculative.training.samples import BadLine, Prompt, Reader, Sample
    from outrider.speculative.training.target import Target

train = typer.Typer(no_args_is_help=True, help="Train and measure speculators.")

TargetPath = Annotated[str | None, typer.Option("--target", help="Checkpoint folder; the embedded model if left out.")]
Data = Annotated[Path | None, typer.Option(help="JSON lines: messages, conversations, prompt and completion, or text.")]
SelfGenerate = Annotated[
    int | None,
    typer.Option(min=1, help="Let the target answer this many prompts: of --data, else of its own making."),
]
Out = Annotated[Path, typer.Option(help="Folder for the speculator; a stopped run in it goes on.")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Times that all samples are read; 3, or as many as make 300 steps.")
]
Minutes = Annotated[float | None, typer.Option(min=0.001, help="Stop learning after this time.")]
BatchTokens = Annotated[int, typer.Option(min=16, help="Tokens of one step.")]
MaxLength = Annotated[int, typer.Option(min=8, help="Tokens of one sample; longer ones are cut.")]
TemplateArguments = Annotated[
    str, typer.Option("--chat-template-kwargs", help='JSON for the chat template: {"enable_thinking": false}.')
]
Seed = Annotated[int, typer.Option(help="Of first weights and order.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of torch; all cores if left out.")]

_MOST_REPORTED_LINES = 20


@dataclass(frozen=True, slots=True)
class _Job:
    """What every kind of training is told."""

    kind: str
    target: str | None
    data: Path | None
    self_generate: int | None
    out: Path
    max_length: int
    template_arguments: str
    threads: int | None
    plan: dict[str, Any]


@train.command()
def eagle3(
    out: Out,
    target: TargetPath = None,
    data: Data = None,
    self_generate: SelfGenerate = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    batch_tokens: BatchTokens = 4096,
    max_length: MaxLength = 2048,
    draft_vocab: Annotated[int, typer.Option(min=1, help="Tokens that the head can guess.")] = 4096,
    chat_template_kwargs: TemplateArguments = "{}",
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Train an EAGLE-3 head: one layer that reads the target's features."""

    def objective(teacher: "Target", samples: "list[Sample]") -> "Objective":
        from outrider.speculative.training.eagle3 import Eagle3Objective

        return Eagle3Objective(teacher, samples, draft_vocab)

    plan = {"epochs": epochs, "minutes": minutes, "batch_tokens": batch_tokens, "seed": seed}
    _train(_Job("eagle3", target, data, self_generate, out, max_length, chat_template_kwargs, threads, plan), objective)


@train.command()
def medusa(
    out: Out,
    target: TargetPath = None,
    data: Data = None,
    self_generate: SelfGenerate = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    batch_tokens: BatchTokens = 4096,
    max_length: MaxLength = 2048,
    num_heads: Annotated[int, typer.Option(min=1, max=16, help="Tokens to guess at once.")] = 4,
    chat_template_kwargs: TemplateArguments = "{}",
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Train Medusa heads: one block per future token, on the target's output layer."""

    def objective(teacher: "Target", samples: "list[Sample]") -> "Objective":  # noqa: ARG001 - they share a vocabulary
        from outrider.speculative.training.medusa import MedusaObjective

        return MedusaObjective(teacher, num_heads)

    plan = {"epochs": epochs, "minutes": minutes, "batch_tokens": batch_tokens, "seed": seed}
    _train(_Job("medusa", target, data, self_generate, out, max_length, chat_template_kwargs, threads, plan), objective)


@train.command()
def draft(
    out: Out,
    target: TargetPath = None,
    data: Data = None,
    self_generate: SelfGenerate = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    batch_tokens: BatchTokens = 4096,
    max_length: MaxLength = 2048,
    hidden_size: Annotated[int, typer.Option(min=64, help="A multiple of 64.")] = 128,
    num_layers: Annotated[int, typer.Option(min=2, help="Layers of the draft model.")] = 3,
    chat_template_kwargs: TemplateArguments = "{}",
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Train a draft model: a small model of the same tokenizer, taught by the target."""
    if hidden_size % 64:
        options.fail(f"--hidden-size {hidden_size} is not a multiple of 64")

    def objective(teacher: "Target", samples: "list[Sample]") -> "Objective":  # noqa: ARG001 - they share a vocabulary
        from outrider.speculative.training.draft import DraftObjective

        return DraftObjective(teacher, hidden_size, num_layers, seed)

    plan = {"epochs": epochs, "minutes": minutes, "batch_tokens": batch_tokens, "seed": seed}
    _train(_Job("draft", target, data, self_generate, out, max_length, chat_template_kwargs, threads, plan), objective)


@train.command()
def evaluate(
    target: TargetPath = None,
    draft: Annotated[Path | None, typer.Option(help="Folder of a draft model.")] = None,
    eagle3: Annotated[Path | None, typer.Option(help="Folder of an EAGLE-3 head.")] = None,
    medusa: Annotated[Path | None, typer.Option(help="Folder of Medusa heads.")] = None,
    data: Data = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Prompts of each kind.")] = 40,
    num_tokens: Annotated[int, typer.Option(min=1, help="Most drafted tokens of a step.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Most tokens of an answer.")] = 256,
    chat_template_kwargs: TemplateArguments = "{}",
    threads: Threads = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Mean emitted tokens per step of the target, for n-grams and for each speculator given.

    Greedy, on the prompts of --data without their last answers; for the embedded model on prompts of its recipe.
    """
    options.wait_passively()
    from rich.console import Console
    from rich.progress import Progress

    from outrider.speculative.training import evaluation
    from outrider.speculative.training.samples import Reader
    from outrider.speculative.training.target import load_target

    if output is not None and not output.parent.is_dir():
        options.fail(f"--output {output}: there is no folder `{output.parent}`")
    with _one_line_errors():
        _prepare(threads)
        teacher = load_target(options.demo_if_none(target))
        drafters, taps = _drafters(teacher, draft, eagle3, medusa, num_tokens)
        reader = Reader(teacher.tokenizer, _parse_arguments(chat_template_kwargs))
        prompts = _held_out(teacher, reader, data, target is None, num_prompts)
        with Progress(transient=True) as progress:
            task = progress.add_task("Measuring", total=len(prompts))
            table = evaluation.measure(
                teacher,
                drafters,
                prompts,
                tap_layers=taps,
                max_new_tokens=max_new_tokens,
                on_prompt=lambda: progress.advance(task),
            )
        Console().print(evaluation.as_table(table, num_tokens))
        if output is not None:
            output.write_text(json.dumps(evaluation.as_figures(table), indent=2) + "\n")


def _train(job: _Job, make_objective: "Callable[[Target, list[Sample]], Objective]") -> None:
    """Loads, prepares samples, trains or goes on, writes the speculator."""
    options.wait_passively()
    if job.data is None and job.self_generate is None:
        options.fail("nothing to learn from: pass --data FILE, --self-generate N, or both")
    import torch

    from outrider.speculative.training.card import Origin, write_card
    from outrider.speculative.training.loop import Plan, Run, with_enough_epochs
    from outrider.speculative.training.target import load_target

    with _one_line_errors(), _Stop() as stop:
        _prepare(job.threads)
        plan = Plan(**{**job.plan, "epochs": job.plan["epochs"] or 1})
        teacher = load_target(options.demo_if_none(job.target))
        job.out.mkdir(parents=True, exist_ok=True)
        samples = _samples(teacher, job, plan.seed)
        if not samples:
            options.fail("there is no sample to learn from")
        if job.plan["epochs"] is None:
            plan = with_enough_epochs(plan, samples)
        torch.manual_seed(plan.seed)
        objective = make_objective(teacher, samples)
        run = Run(objective, samples, plan, job.out, teacher.fingerprint)
        done = run.resume()
        if done:
            typer.echo(f"going on after step {done} of {run.num_steps}")
        with stop.between_steps():
            progress = _watch(run, plan, stop)
        if progress is None:
            raise KeyboardInterrupt
        parameters = sum(parameter.numel() for parameter in objective.module.parameters())
        answers = f"answers of the target to {len(samples)} prompts"
        source = answers if job.self_generate else str(job.data and job.data.name)
        name, licence = ("outrider-demo", "apache-2.0") if job.target is None else (Path(job.target).name, "")
        origin = Origin(job.kind, name, source, len(samples), parameters, licence)
        run.finish(write_card(origin, plan, progress))
    typer.echo(f"saved to {job.out}")


class _Stop:
    """Turns the first SIGINT or SIGTERM during training into a wish to stop between two steps."""

    def __init__(self) -> None:
        self.wanted = False
        self._training = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def between_steps(self) -> Iterator[None]:
        """A step that has begun is finished inside of this block; outside, a signal interrupts at once."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    def _hear(self, *_: object) -> None:
        if not self._training or self.wanted:
            raise KeyboardInterrupt
        self.wanted = True


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """What a user can cause ends the command with one line."""
    import torch

    from outrider.speculative.files import CheckpointError

    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nstopped; the same command goes on where it was", err=True)
        raise typer.Exit(130) from None
    except torch.OutOfMemoryError as error:
        options.fail(f"out of memory: lower --batch-tokens or --max-length ({str(error).splitlines()[0]})")
    except (CheckpointError, ValueError, FloatingPointError, OSError) as error:
        options.fail(str(error))


def _prepare(threads: int | None) -> None:
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)


def _parse_arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        options.fail(f"--chat-template-kwargs {text} is not a JSON object")
    return arguments


@dataclass(slots=True)
class _BadLines:
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


def _samples(teacher: "Target", job: _Job, seed: int) -> "list[Sample]":
    """From the file, from the target's answers to the file's prompts, or to prompts of its own."""
    from rich.progress import Progress

    from outrider.speculative.training.answers import ANSWERS_FILE, answer
    from outrider.speculative.training.samples import Reader

    reader = Reader(teacher.tokenizer, _parse_arguments(job.template_arguments))
    max_length = min(job.max_length, teacher.max_length)
    if job.self_generate is None:
        assert job.data is not None
        bad = _BadLines(job.data)
        samples = reader.samples(job.data, max_length, bad.report)
        bad.summarise()
        return samples
    prompts = _prompts(teacher, reader, job, seed, max_length)
    with Progress(transient=True) as progress:
        task = progress.add_task("The target answers", total=len(prompts))
        return answer(
            teacher,
            prompts,
            job.out / ANSWERS_FILE,
            seed=seed,
            max_length=max_length,
            on_answers=lambda count: progress.advance(task, count),
        )


def _prompts(teacher: "Target", reader: "Reader", job: _Job, seed: int, max_length: int) -> "list[Prompt]":
    """At most as many as the target shall answer."""
    import torch

    from outrider.speculative.training.samples import Prompt

    assert job.self_generate is not None
    if job.data is not None:
        bad = _BadLines(job.data)
        prompts = reader.prompts(job.data, max_length, bad.report)[: job.self_generate]
        bad.summarise()
        if not prompts:
            options.fail(f"`{job.data}` has no prompt")
        return prompts
    if job.target is None:
        return [reader.parse_prompt(line) for line in itertools.islice(_demo_records(seed), job.self_generate)]
    torch.manual_seed(seed)
    return [Prompt(ids, "self") for ids in teacher.write_prompts(job.self_generate)]


def _held_out(
    teacher: "Target", reader: "Reader", data: Path | None, is_demo: bool, num_prompts: int
) -> "list[Prompt]":
    """At most `num_prompts` prompts of each kind."""
    if data is not None:
        bad = _BadLines(data)
        counts: Counter[str] = Counter()
        chosen = []
        for prompt in reader.prompts(data, teacher.max_length, bad.report):
            counts[prompt.kind] += 1
            if counts[prompt.kind] <= num_prompts:
                chosen.append(prompt)
        bad.summarise()
        if not chosen:
            options.fail(f"`{data}` has no prompt")
        return chosen
    if not is_demo:
        options.fail("no prompts to measure on: pass --data FILE")
    lines = itertools.islice(_demo_records(seed=3_000_003, held_out=True), 6 * num_prompts)
    return [reader.parse_prompt(line) for line in lines]


def _demo_records(seed: int, *, held_out: bool = False) -> "Iterator[dict[str, Any]]":
    """Dialogues of the demo recipe, as lines of a data file; the embedded model knows no tools yet."""
    from outrider.demo.recipe.mixture import examples, record

    for example in examples(seed, held_out=held_out):
        if example.kind != "story" and not example.tools:
            yield record(example)


def _drafters(
    teacher: "Target", draft: Path | None, eagle3: Path | None, medusa: Path | None, num_tokens: int
) -> "tuple[dict[str, Drafter], tuple[int, ...]]":
    """What to measure, and the layers that it reads; what does not fit the target is refused."""
    from outrider.speculative.eagle3 import load_eagle3
    from outrider.speculative.medusa import load_medusa
    from outrider.speculative.training import evaluation
    from outrider.speculative.training.target import load_model

    drafters: dict[str, Drafter] = {f"ngram (k={num_tokens})": evaluation.NgramDrafter(num_tokens)}
    taps: tuple[int, ...] = ()
    if draft is not None:
        model, tokenizer = load_model(str(draft))
        evaluation.check_draft(tokenizer.get_vocab(), str(draft), teacher)
        drafters[f"draft (k={num_tokens})"] = evaluation.ModelDrafter(model, num_tokens)
    if eagle3 is not None:
        head = load_eagle3(eagle3, teacher.num_layers)
        evaluation.check_eagle3(head, str(eagle3), teacher)
        taps = head.config.tap_layers
        drafters[f"eagle3 (k={num_tokens})"] = evaluation.Eagle3Drafter(head, teacher, num_tokens)
    if medusa is not None:
        heads = load_medusa(medusa)
        evaluation.check_medusa(heads, str(medusa), teacher)
        count = min(num_tokens, heads.config.num_heads)
        drafters[f"medusa (k={count})"] = evaluation.MedusaDrafter(heads, teacher, count)
    return drafters, taps


def _watch(run: "Run", plan: "Plan", stop: _Stop) -> "Progress | None":
    """Trains under a progress bar; every report is also a line."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("training", total=1.0)

        def report(progress: "Progress") -> None:
            shares = " ".join(f"{share:.3f}" for share in progress.acceptance)
            rate = progress.tokens / max(progress.seconds, 1e-9)
            console.print(
                f"step {progress.step}/{progress.num_steps}  loss {progress.loss:.4f}  acceptance {shares}  "
                f"{progress.tokens / 1e6:.2f}M tokens  {rate:.0f}/s",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )
            spent = 0.0 if plan.minutes is None else progress.seconds / (60 * plan.minutes)
            bar.update(task, completed=max(progress.fraction, spent))

        return run.train(report, should_stop=lambda: stop.wanted)
