"""Where speculation stops paying: each method over a sweep of concurrencies, beside none at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import msgspec

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.result import per_second
from outrider.loadtest.run import Outcome
from outrider.loadtest.weights import Weighted

BASELINE = "off"
PAYS_ABOVE = 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A method at a concurrency; `is_constrained` tells whether schemas were enforced. One outcome for each round."""

    method: str
    concurrency: int
    is_constrained: bool
    throughputs: tuple[float, ...] = ()
    tpots: tuple[float, ...] = ()
    num_failed: int = 0
    is_valid: bool = True

    @property
    def throughput(self) -> float:
        """Output tokens per second, the median of the rounds."""
        return median(self.throughputs)

    def with_outcome(self, outcome: Outcome) -> "Cell":
        """After another round."""
        summary = outcome.summary
        return replace(
            self,
            throughputs=(*self.throughputs, per_second(summary.num_output_tokens, summary.duration)),
            tpots=(*self.tpots, summary.latencies["tpot"].median),
            num_failed=self.num_failed + summary.num_failed,
            is_valid=self.is_valid and not outcome.findings.faults,
        )


@dataclass(slots=True)
class Crossover:
    """The table; cells come in as they are measured."""

    methods: tuple[str, ...]
    levels: tuple[int, ...]
    cells: dict[tuple[str, int, bool], Cell] = field(default_factory=dict)

    def add(self, method: str, concurrency: int, is_constrained: bool, outcome: Outcome) -> None:
        """Takes one run."""
        key = method, concurrency, is_constrained
        self.cells[key] = self.cells.get(key, Cell(*key)).with_outcome(outcome)

    def speedup(self, method: str, concurrency: int, is_constrained: bool) -> float | None:
        """Throughput as a multiple of that without speculation at the same concurrency; None where not measured."""
        cell = self.cells.get((method, concurrency, is_constrained))
        base = self.cells.get((BASELINE, concurrency, is_constrained))
        return cell.throughput / base.throughput if cell and base and base.throughput else None

    def pays_until(self, method: str, is_constrained: bool) -> int | None:
        """The highest concurrency up to which every measured level was faster than without; None for none."""
        highest = None
        for level in self.levels:
            speedup = self.speedup(method, level, is_constrained)
            if speedup is None or speedup <= PAYS_ABOVE:
                break
            highest = level
        return highest

    def as_json(self) -> bytes:
        """All cells, with the figures of each round."""
        cells = [
            {
                "method": cell.method,
                "concurrency": cell.concurrency,
                "constrained": cell.is_constrained,
                "output_throughputs": cell.throughputs,
                "median_tpots_ms": [tpot * 1000 for tpot in cell.tpots],
                "speedup": self.speedup(*key),
                "failed": cell.num_failed,
                "valid": cell.is_valid,
            }
            for key, cell in self.cells.items()
        ]
        return msgspec.json.format(msgspec.json.encode({"cells": cells})) + b"\n"


def plan(
    config: LoadtestConfig,
    methods: Sequence[str],
    levels: Sequence[int],
    *,
    constraints: Sequence[bool],
    requests: int,
    rounds: int,
) -> Iterator[tuple[str, int, bool, LoadtestConfig]]:
    """All runs, methods in turn within a round, so that a machine that drifts drifts for all of them.

    Each has `requests` requests, or four for each user where that is more; all methods are asked the same.
    """
    ordered = (BASELINE, *(method for method in methods if method != BASELINE))
    for level in levels:
        for is_constrained in constraints:
            for number in range(rounds):
                turned = ordered[number % len(ordered) :] + ordered[: number % len(ordered)]
                for method in turned:
                    yield (
                        method,
                        level,
                        is_constrained,
                        replace(
                            config,
                            max_concurrency=level,
                            num_prompts=max(requests, 4 * level),
                            num_warmups=max(config.num_warmups, level),
                            speculation=Weighted((method,), (1.0,)),
                            structured_output_ratio=1.0 if is_constrained else 0.0,
                            seed=config.seed + number,
                        ),
                    )
