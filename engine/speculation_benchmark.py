"""What speculation is worth: tokens per second of the same requests with each way of drafting, and without any.

All variants answer the same prompts greedily; since no draft can change a token, they do the same work, which is
checked. Rounds alternate between the variants, because a shared machine's speed drifts; medians are compared.

A small target can be given the step times of a larger one, to see what speculation is worth where steps cost more than
drafts. Nothing that serves can reach this.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from outrider.engine.config import BLOCK_SIZE
from outrider.engine.core import EngineCore
from outrider.engine.errors import EngineError
from outrider.engine.models.loader import load_model
from outrider.engine.models.served_model import ServedModel
from outrider.engine.protocol import OFF, SamplingParams, SpeculationParams, Submit
from outrider.engine.random_checkpoint import write_random_checkpoint
from outrider.engine.step_costs import CONTEXT, measure_steps
from outrider.kernels.model_output import ModelOutput
from outrider.kernels.paged_attention import AttentionBatch
from outrider.speculative.costs import Costs

# Of a model whose steps are emulated; prompts are read many tokens at once.
EMULATED_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
EMULATED_SECONDS: Final = 60.0
EMULATED_SEQUENCES: Final = 64  # that the cache holds; further rows read what others read


@dataclass(frozen=True, slots=True)
class Task:
    """One request; its kind is a row of the table."""

    kind: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    prediction_ids: tuple[int, ...] = ()
    grammar_key: str | None = None


@dataclass(frozen=True, slots=True)
class SpeculationRow:
    """One variant on one kind of task at one concurrency."""

    kind: str
    variant: str
    concurrency: int
    num_tokens: int
    num_steps: int  # of a round
    rates: tuple[float, ...]  # output tokens per second of each round

    @property
    def rate(self) -> float:
        """The median round's."""
        return statistics.median(self.rates)

    @property
    def tokens_per_step(self) -> float:
        """Of each request that runs; 1 without speculation."""
        return self.num_tokens / max(1, self.num_steps)


def speed_up(rows: Sequence[SpeculationRow], row: SpeculationRow) -> float:
    """The median over the rounds of how many times as fast as `off` a variant was in the same round."""
    (off,) = [one for one in rows if (one.kind, one.concurrency, one.variant) == (row.kind, row.concurrency, OFF)]
    return statistics.median(mine / plain for mine, plain in zip(row.rates, off.rates, strict=True))


def mean_speed_up(rows: Sequence[SpeculationRow], variant: str, concurrency: int) -> float:
    """The geometric mean over the kinds."""
    return statistics.geometric_mean(
        speed_up(rows, row) for row in rows if (row.variant, row.concurrency) == (variant, concurrency)
    )


def crossover(rows: Sequence[SpeculationRow], variant: str) -> int | None:
    """The smallest measured concurrency at which a variant is slower than `off` in the mean; None if at none."""
    measured = sorted({row.concurrency for row in rows})
    return next((one for one in measured if mean_speed_up(rows, variant, one) < 1.0), None)


def measure_speculation(
    core: EngineCore,
    tasks: Sequence[Task],
    variants: Mapping[str, SpeculationParams],
    *,
    concurrency: int,
    num_rounds: int,
    on_round: Callable[[], None] = lambda: None,
) -> list[SpeculationRow]:
    """Runs each kind's tasks, `concurrency` at once, with every variant in turn, after one round that warms up.

    Args:
        core: nothing runs in it
        tasks: of all kinds; their grammars are loaded
        variants: by name; `off` is added where it is missing
        concurrency: requests at once
        num_rounds: that are measured
        on_round: called after each variant's turn

    Raises:
        EngineError: a variant's answers are not those of `off`.
    """
    rows: list[SpeculationRow] = []
    for kind in dict.fromkeys(task.kind for task in tasks):
        mine = [task for task in tasks if task.kind == kind]
        runs: dict[str, list[Run]] = {name: [] for name in {OFF: None, **variants}}
        for _ in range(num_rounds + 1):
            for name, found in runs.items():
                run = run_tasks(core, mine, variants.get(name, SpeculationParams()), concurrency)
                if runs[OFF] and run.answers != runs[OFF][0].answers:
                    raise EngineError(f"speculation `{name}` has changed an answer of kind `{kind}`")
                found.append(run)
                on_round()
        for name, found in runs.items():
            del found[0]
            rows.append(
                SpeculationRow(
                    kind, name, concurrency, found[0].num_tokens, found[-1].num_steps, tuple(one.rate for one in found)
                )
            )
    return rows


def shape_costs(shape: str, num_threads: int | None) -> Costs:
    """Seconds of a step by its rows, of a model of random weights.

    Args:
        shape: a name of `shape_names`, or the path of a config.json
        num_threads: of torch; by the size of the model when None

    Raises:
        LoadError: there is no such shape, or it cannot be served on this machine.
    """
    with tempfile.TemporaryDirectory(prefix="outrider-") as folder:
        write_random_checkpoint(shape, Path(folder))
        model = load_model(folder, num_threads=num_threads).model
        num_blocks = EMULATED_SEQUENCES * CONTEXT // BLOCK_SIZE
        model.allocate_cache(num_blocks, BLOCK_SIZE)
        return measure_steps(model, num_blocks, EMULATED_SIZES, EMULATED_SECONDS)


def emulate(model: ServedModel, seconds: Callable[[int], float]) -> ServedModel:
    """The same model, each of whose passes takes at least as long as another's.

    Args:
        model: is changed
        seconds: of a pass by its rows
    """
    forward = model.forward

    def slow(
        token_ids: torch.Tensor, positions: torch.Tensor, batch: AttentionBatch, logit_rows: torch.Tensor
    ) -> ModelOutput:
        ends = time.perf_counter() + seconds(len(token_ids))
        output = forward(token_ids, positions, batch, logit_rows)
        while time.perf_counter() < ends:
            pass  # asleep it would leave the processor to others, as no model does
        return output

    model.forward = slow  # type: ignore[method-assign]  # all else stays the model's own
    return model


@dataclass(frozen=True, slots=True)
class Run:
    """All tasks answered once."""

    answers: tuple[tuple[int, ...], ...]
    num_steps: int  # summed over the requests, those with a draft or without
    seconds: float

    @property
    def num_tokens(self) -> int:
        """Of all answers."""
        return sum(map(len, self.answers))

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.num_tokens / self.seconds


def run_tasks(core: EngineCore, tasks: Sequence[Task], speculation: SpeculationParams, concurrency: int) -> Run:
    """Answers all tasks, the next one begun when one is done."""
    answers: list[list[int]] = [[] for _ in tasks]
    waiting = list(range(len(tasks)))
    num_running = num_steps = 0
    started = time.perf_counter()
    while waiting or num_running:
        while waiting and num_running < concurrency:
            index = waiting.pop(0)
            core.add(submit_of(index, tasks[index], speculation))
            num_running += 1
        for delta in core.step():
            answers[int(delta.request_id)] += delta.token_ids
            num_steps += bool(delta.token_ids)
            num_running -= delta.finish_reason is not None
    return Run(tuple(map(tuple, answers)), num_steps, time.perf_counter() - started)


def submit_of(index: int, task: Task, speculation: SpeculationParams) -> Submit:
    """A task as a request, greedy; without a prediction the proposer of this name is left out."""
    methods = speculation.methods
    if not task.prediction_ids:
        methods = tuple(name for name in methods if name != "prediction")
    return Submit(
        request_id=str(index),
        prompt_ids=list(task.prompt_ids),
        params=SamplingParams(seed=index, max_tokens=task.max_tokens, temperature=0.0),
        speculation=SpeculationParams(
            methods,
            speculation.max_tokens,
            task.prediction_ids if "prediction" in methods else (),
            auto=speculation.auto,
            min_probability=speculation.min_probability,
        ),
        grammar_key=task.grammar_key,
    )
