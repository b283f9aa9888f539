"""What an engine says of itself, as Prometheus shows it."""

from outrider.engine.protocol import EngineStats
from outrider.gateway.state import record_engine_stats
from outrider.telemetry.metrics import Metrics


def stats(histogram: list[int]) -> EngineStats:
    accepted = sum(count * index for index, count in enumerate(histogram))
    return EngineStats(
        *(1, 0, 4, 1, 9, 0.5, 0, 0),
        draft_tokens={"ngram": 40},
        accepted_draft_tokens={"ngram": accepted},
        acceptance_histograms={"ngram": histogram},
        dropped_drafts={"ngram": 1},
        token_origins={"ngram": accepted, "bonus": sum(histogram), "target": 3},
        resident_bytes=0,
        peak_resident_bytes=0,
    )


def test_tokens_are_counted_by_their_place_in_the_draft() -> None:
    """A step that accepts two has accepted one at each of the first two places; a report repeats what was."""
    metrics = Metrics(routes=[])
    record_engine_stats(metrics, stats([]))
    record_engine_stats(metrics, stats([5, 1]))
    record_engine_stats(metrics, stats([6, 1, 4, 2]))
    lines = set(metrics.render("")[0].decode().splitlines())

    assert {
        'outrider_accepted_draft_tokens_per_position_total{method="ngram",position="0"} 7.0',
        'outrider_accepted_draft_tokens_per_position_total{method="ngram",position="1"} 6.0',
        'outrider_accepted_draft_tokens_per_position_total{method="ngram",position="2"} 2.0',
        'outrider_accepted_draft_tokens_total{method="ngram"} 15.0',
        'outrider_draft_steps_total{method="ngram"} 13.0',
        'outrider_dropped_drafts_total{method="ngram"} 1.0',
        'outrider_tokens_by_origin_total{origin="bonus"} 13.0',
        'outrider_tokens_by_origin_total{origin="target"} 3.0',
    } <= lines
