"""What speculation is worth: tokens per second of the same requests with each way of drafting, and without any.

All variants answer the same prompts greedily; since no draft can change a token, they do the same work, which is
checked. Rounds alternate between the variants, because a shared machine's speed drifts; medians are compared.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from outrider.engine.core import EngineCore
from outrider.engine.errors import EngineError
from outrider.engine.protocol import SamplingParams, SpeculationParams, Submit

OFF = "off"


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
        runs: dict[str, list[_Run]] = {name: [] for name in {OFF: None, **variants}}
        for _ in range(num_rounds + 1):
            for name, found in runs.items():
                run = _run(core, mine, variants.get(name, SpeculationParams()), concurrency)
                if found and run.answers != runs[OFF][0].answers:
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


@dataclass(frozen=True, slots=True)
class _Run:
    answers: tuple[tuple[int, ...], ...]
    num_steps: int  # summed over the requests, those with a draft or without
    seconds: float

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.answers))

    @property
    def rate(self) -> float:
        return self.num_tokens / self.seconds


def _run(core: EngineCore, tasks: Sequence[Task], speculation: SpeculationParams, concurrency: int) -> _Run:
    """Answers all tasks, the next one begun when one is done."""
    answers: list[list[int]] = [[] for _ in tasks]
    waiting = list(range(len(tasks)))
    num_running = num_steps = 0
    started = time.perf_counter()
    while waiting or num_running:
        while waiting and num_running < concurrency:
            index = waiting.pop(0)
            core.add(_submit(index, tasks[index], speculation))
            num_running += 1
        for delta in core.step():
            answers[int(delta.request_id)] += delta.token_ids
            num_steps += bool(delta.token_ids)
            num_running -= delta.finish_reason is not None
    return _Run(tuple(map(tuple, answers)), num_steps, time.perf_counter() - started)


def _submit(index: int, task: Task, speculation: SpeculationParams) -> Submit:
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
