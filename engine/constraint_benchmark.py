"""What a grammar costs, and what it gives: the same prompts with and without one.

Everything that is compared runs in the same round, because a shared machine's speed drifts; a ratio is the median over
the rounds.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from outrider.engine.core import EngineCore
from outrider.engine.errors import EngineError
from outrider.engine.protocol import SpeculationParams
from outrider.engine.speculation_benchmark import Task, run_tasks, submit_of

FREE: Final = ("grammar", "ngram", "suffix")  # proposers that compute nothing worth mentioning


@dataclass(frozen=True, slots=True)
class ConstraintFigures:
    """Ratios of each round."""

    free: tuple[float, ...]  # constrained, one at once: tokens per second with FREE by those without speculation
    # One at once with `auto`: tokens per second constrained by those unconstrained, of answers that are alike; of all
    # if none is. Others repeat themselves where nothing ends them, and repetitions are drafted best.
    auto: tuple[float, ...]
    num_alike: int
    overhead: tuple[float, ...]  # many at once without speculation: time per token constrained by that unconstrained


def measure_constraint(
    core: EngineCore,
    tasks: Sequence[Task],
    *,
    concurrency: int,
    num_rounds: int,
    on_turn: Callable[[], None] = lambda: None,
) -> ConstraintFigures:
    """Runs the tasks in all the ways that are compared, in turn, after one round that warms up: six turns a round.

    Args:
        core: nothing runs in it
        tasks: with their grammars, which are loaded; at least `concurrency`
        concurrency: requests at once where the overhead is measured
        num_rounds: that are measured
        on_turn: called after each turn

    Raises:
        EngineError: speculation has changed an answer.
    """
    plain = [replace(task, grammar_key=None) for task in tasks]
    max_tokens, methods = core.config.speculation_max_tokens, core.speculation_methods
    free = SpeculationParams(tuple(name for name in methods if name in FREE), max_tokens)
    auto = SpeculationParams(methods, max_tokens, auto=True)
    pairs = zip(
        *(run_tasks(core, mine, SpeculationParams(), concurrency).answers for mine in (tasks, plain)), strict=True
    )
    # A grammar ends an answer that cannot go on; without it the model says so.
    alike = [
        index for index, (one, other) in enumerate(pairs) if other[: len(one)] == one and len(other) <= len(one) + 1
    ]
    compared = alike or range(len(tasks))
    chosen, unbound = [tasks[index] for index in compared], [plain[index] for index in compared]
    found: list[tuple[float, float, float]] = []
    for _ in range(num_rounds + 1):
        runs = []
        for mine, speculation in ((tasks, SpeculationParams()), (tasks, free), (chosen, auto), (unbound, auto)):
            runs.append(run_tasks(core, mine, speculation, 1))
            on_turn()
        off, with_free, with_auto, unconstrained = runs
        if off.answers != with_free.answers or with_auto.answers != tuple(off.answers[index] for index in compared):
            raise EngineError("speculation has changed a constrained answer")
        times = []
        for mine in (tasks, plain):
            times.append(step_seconds(core, mine[:concurrency]))
            on_turn()
        found.append((with_free.rate / off.rate, with_auto.rate / unconstrained.rate, times[0] / times[1]))
    free_ratios, auto_ratios, overheads = zip(*found[1:], strict=True)
    return ConstraintFigures(free_ratios, auto_ratios, len(alike), overheads)


def step_seconds(core: EngineCore, tasks: Sequence[Task]) -> float:
    """The median step, without speculation, of those in which every one of the tasks gets a token and none is read.

    Raises:
        EngineError: no such step, since an answer has one token only.
    """
    for index, task in enumerate(tasks):
        core.add(submit_of(index, task, SpeculationParams()))
    seconds: list[float] = []
    seen: set[str] = set()
    num_ended = 0
    while core.has_work:
        is_full = len(seen) == len(tasks) and num_ended == 0
        started = time.perf_counter()
        deltas = core.step()
        if is_full:
            seconds.append(time.perf_counter() - started)
        seen.update(delta.request_id for delta in deltas)
        num_ended += sum(delta.finish_reason is not None for delta in deltas)
    if not seconds:
        raise EngineError("an answer has no second token: the time per token of all of them cannot be measured")
    return statistics.median(seconds)
