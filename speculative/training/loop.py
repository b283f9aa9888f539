"""The training loop that every kind of speculator shares: batches, optimisers, schedule, progress, resuming.

Owns steps and their order; what is learned is an `Objective`'s business. The order of batches follows from the seed
alone, so a run that was stopped and goes on ends with the weights of one that was not.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import nn

from outrider.speculative.training.samples import Sample
from outrider.speculative.training.steps import Batch, collate, descend, grouped, optimisers, save_state

STATE_FILE: Final = "training.pt"
METRICS_FILE: Final = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one step: the loss, and for each drafted place how many guesses were the target's own, of how many."""

    loss: torch.Tensor
    hits: torch.Tensor
    trials: torch.Tensor


class Objective(Protocol):
    """What a kind of speculator learns."""

    @property
    def module(self) -> nn.Module:
        """What is trained, in float32."""
        ...

    def outcome(self, batch: Batch) -> Outcome:
        """The loss to descend, with gradients to the module's parameters."""
        ...

    def save(self, folder: Path, card: str) -> None:
        """Writes the speculator as a checkpoint folder."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to learn. `minutes` ends a run before its epochs are over; None never does."""

    epochs: int = 3
    minutes: float | None = None
    batch_tokens: int = 4096
    matrix_rate: float = 0.02
    vector_rate: float = 2e-3
    warmup: float = 0.03
    seed: int = 0
    save_every_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; `acceptance` is the share of guesses that are the target's, by place, since the last report."""

    step: int
    num_steps: int
    seconds: float
    tokens: int
    loss: float
    acceptance: tuple[float, ...]

    @property
    def fraction(self) -> float:
        """Of the planned steps."""
        return self.step / max(1, self.num_steps)


class Run:
    """A run with all it needs to go on after it was stopped; `belongs_to` names its target and options."""

    def __init__(
        self, objective: Objective, samples: Sequence[Sample], plan: Plan, folder: Path, belongs_to: str = ""
    ) -> None:
        self._objective = objective
        self._samples = samples
        self._plan = plan
        self._folder = folder
        self._step = 0
        self._tokens = 0
        self._seconds = 0.0
        self._identity = _identity(objective.module, samples, plan, belongs_to)
        self._last = Progress(0, 0, 0.0, 0, math.nan, ())
        self._optimisers = optimisers(objective.module, plan.matrix_rate, plan.vector_rate)
        self.num_steps = sum(len(_groups(samples, plan, epoch)) for epoch in range(plan.epochs))

    @property
    def state_path(self) -> Path:
        """Where a stopped run is kept."""
        return self._folder / STATE_FILE

    def resume(self) -> int:
        """Goes on where the folder's state is, if there is one; the number of steps already done.

        Raises:
            ValueError: the state is damaged, or belongs to another target, other data or another plan.
        """
        if not self.state_path.exists():
            return 0
        try:
            state = torch.load(self.state_path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file raises anything
            raise ValueError(f"`{self.state_path}` is damaged: remove it to start anew") from error
        if state["identity"] != self._identity:
            raise ValueError(
                f"`{self._folder}` has a stopped run of other data or options: remove {STATE_FILE} to start anew"
            )
        self._objective.module.load_state_dict(state["module"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self._last = Progress(**{**state["progress"], "acceptance": tuple(state["progress"]["acceptance"])})
        self._step, self._tokens, self._seconds = state["step"], state["tokens"], state["seconds"]
        return self._step

    def train(
        self,
        report: Callable[[Progress], None],
        *,
        should_stop: Callable[[], bool] = lambda: False,
        report_every: int = 20,
    ) -> Progress | None:
        """Learns until the plan is fulfilled; None if it was to stop, which it does between two steps.

        The state is kept every few minutes, when it stops and at the end.

        Raises:
            FloatingPointError: the loss or a gradient is no longer a number; the state before stays.
        """
        self._objective.module.train()
        start, saved = time.monotonic() - self._seconds, self._seconds
        window: list[Outcome] = []
        for groups in self._remaining():
            if self._fraction() >= 1.0:
                break
            if should_stop():
                self.save()
                return None
            window.append(self._learn(collate([self._samples[index] for index in groups])))
            self._seconds = time.monotonic() - start
            if len(window) == report_every or self._fraction() >= 1.0:
                self._last = self._report(window)
                report(self._last)
                window = []
            if self._seconds - saved > self._plan.save_every_s:
                self.save()
                saved = self._seconds
        self.save()
        return self._last

    def save(self) -> None:
        """Writes the state beside its place, then renames it."""
        state = {
            "identity": self._identity,
            "module": self._objective.module.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "step": self._step,
            "tokens": self._tokens,
            "seconds": self._seconds,
            "progress": asdict(self._last),
        }
        save_state(state, self.state_path)

    def finish(self, card: str) -> None:
        """Writes the checkpoint, then drops the state."""
        self._objective.module.eval()
        self._objective.save(self._folder, card)
        self.state_path.unlink(missing_ok=True)

    def _learn(self, batch: Batch) -> Outcome:
        outcome = self._objective.outcome(batch)
        if not torch.isfinite(outcome.loss):
            raise FloatingPointError(f"the loss of step {self._step + 1} is {outcome.loss.item()}")
        outcome.loss.backward()
        descend(self._objective.module, self._optimisers, schedule(self._fraction(), self._plan.warmup))
        self._step += 1
        self._tokens += int((batch.ids != 0).sum())
        return Outcome(outcome.loss.detach(), outcome.hits.detach(), outcome.trials.detach())

    def _fraction(self) -> float:
        done = self._step / max(1, self.num_steps)
        return done if self._plan.minutes is None else max(done, self._seconds / (60 * self._plan.minutes))

    def _remaining(self) -> Iterator[list[int]]:
        """The batches of all epochs in order, without those already learned."""
        skip = self._step
        for epoch in range(self._plan.epochs):
            groups = _groups(self._samples, self._plan, epoch)
            if skip >= len(groups):
                skip -= len(groups)
                continue
            yield from groups[skip:]
            skip = 0

    def _report(self, window: Sequence[Outcome]) -> Progress:
        hits = torch.stack([outcome.hits for outcome in window]).sum(0)
        trials = torch.stack([outcome.trials for outcome in window]).sum(0)
        progress = Progress(
            step=self._step,
            num_steps=self.num_steps,
            seconds=self._seconds,
            tokens=self._tokens,
            loss=torch.stack([outcome.loss for outcome in window]).mean().item(),
            acceptance=tuple((hits / trials.clamp(min=1)).tolist()),
        )
        with (self._folder / METRICS_FILE).open("a") as file:
            figures = {
                "step": progress.step,
                "seconds": round(progress.seconds, 1),
                "tokens": progress.tokens,
                "loss": round(progress.loss, 4),
                "acceptance": [round(share, 4) for share in progress.acceptance],
            }
            file.write(json.dumps(figures) + "\n")
        return progress


def with_enough_epochs(plan: Plan, samples: Sequence[Sample], least: int = 3, num_steps: int = 300) -> Plan:
    """The plan with `least` epochs, or as many as make `num_steps` steps: a few samples must be read often."""
    return replace(plan, epochs=max(least, -(-num_steps // len(_groups(samples, plan, 0)))))


def schedule(fraction: float, warmup: float) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    if fraction < warmup:
        return (fraction + 1e-3) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - warmup) / (1 - warmup))))


def _identity(module: nn.Module, samples: Sequence[Sample], plan: Plan, belongs_to: str) -> str:
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    data = [(sample.token_ids, sample.learned) for sample in samples]
    facts = json.dumps([shapes, plan.epochs, plan.batch_tokens, plan.seed, belongs_to, data])
    return hashlib.sha256(facts.encode()).hexdigest()


def _groups(samples: Sequence[Sample], plan: Plan, epoch: int) -> list[list[int]]:
    """Indexes of samples of like length, each group about as many tokens, in an order of its own each epoch."""
    order = torch.Generator().manual_seed(plan.seed * 1_000_003 + epoch)
    shuffled = torch.randperm(len(samples), generator=order).tolist()
    groups: list[list[int]] = []
    # Sorted within pools, so that the same samples do not meet in every epoch.
    for start in range(0, len(shuffled), 1024):
        lengths = {index: len(samples[index].token_ids) for index in shuffled[start : start + 1024]}
        groups += grouped(lengths, plan.batch_tokens)
    return [groups[index] for index in torch.randperm(len(groups), generator=order).tolist()]
