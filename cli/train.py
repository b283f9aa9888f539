"""`outrider train`: speculators for a target."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.cli import options
from outrider.cli.samples import Source, read_samples

if TYPE_CHECKING:
    from outrider.speculative.training.loop import Objective, Plan, Progress, Run
    from outrider.speculative.training.samples import Sample
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


@dataclass(frozen=True, slots=True)
class _Job:
    """What every kind of training is told."""

    kind: str
    target: str | None
    source: Source
    out: Path
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
    source = Source(data, self_generate, target is None, max_length, chat_template_kwargs)
    _train(_Job("eagle3", target, source, out, threads, plan), objective)


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
    num_layers: Annotated[int, typer.Option(min=1, help="Blocks of each head.")] = 1,
    chat_template_kwargs: TemplateArguments = "{}",
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Train Medusa heads: one block per future token, on the target's output layer."""

    def objective(teacher: "Target", samples: "list[Sample]") -> "Objective":  # noqa: ARG001 - they share a vocabulary
        from outrider.speculative.training.medusa import MedusaObjective

        return MedusaObjective(teacher, num_heads, num_layers)

    plan = {"epochs": epochs, "minutes": minutes, "batch_tokens": batch_tokens, "seed": seed}
    source = Source(data, self_generate, target is None, max_length, chat_template_kwargs)
    _train(_Job("medusa", target, source, out, threads, plan), objective)


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
    source = Source(data, self_generate, target is None, max_length, chat_template_kwargs)
    _train(_Job("draft", target, source, out, threads, plan), objective)


def _train(job: _Job, make_objective: "Callable[[Target, list[Sample]], Objective]") -> None:
    """Loads, prepares samples, trains or goes on, writes the speculator."""
    options.wait_passively()
    if job.source.data is None and job.source.self_generate is None:
        options.fail("nothing to learn from: pass --data FILE, --self-generate N, or both")
    import torch

    from outrider.speculative.training.card import Origin, write_card
    from outrider.speculative.training.loop import Plan, Run, with_enough_epochs
    from outrider.speculative.training.target import load_target

    with one_line_errors(), _Stop() as stop:
        prepare(job.threads)
        plan = Plan(**{**job.plan, "epochs": job.plan["epochs"] or 1})
        teacher = load_target(options.demo_if_none(job.target))
        job.out.mkdir(parents=True, exist_ok=True)
        samples = read_samples(teacher, job.source, job.out, plan.seed)
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
        source = answers if job.source.self_generate else str(job.source.data and job.source.data.name)
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
def one_line_errors() -> Iterator[None]:
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


def prepare(threads: int | None) -> None:
    """Quiet libraries, and as many threads as wanted."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)


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
