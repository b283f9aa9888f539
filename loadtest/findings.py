"""All that a run has found, as the report, the result file and the page show it: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from outrider.loadtest.measure import Measurement, Summary
from outrider.loadtest.sample import Sample
from outrider.loadtest.validity import Validity


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """`faults` say why the run is not valid, `notes` what a reader should know.

    `num_good` requests kept every limit of --goodput (None where there is none), `validity` counts answers by what
    their schema says, `server` has the server's own figures with seconds from the start, `variant` is --speculation.
    """

    date: str
    model: str
    variant: str | None
    num_requests: int
    measurement: Measurement
    samples: tuple[Sample, ...]
    summary: Summary
    variants: dict[str, Summary] = field(default_factory=dict)
    num_good: int | None
    validity: Mapping[Validity, int]
    server: list[dict[str, float]]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    is_partial: bool
    lost_server: str | None = None

    @property
    def attainment(self) -> float | None:
        """Part of the requests that ended which were good."""
        ended = self.summary.num_completed + self.summary.num_failed
        return self.num_good / ended if self.num_good is not None and ended else None
