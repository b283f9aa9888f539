"""Against a server whose latencies are known to the millisecond, in virtual time: what is reported is what was."""

import math
from collections.abc import Sequence
from random import Random

import numpy
import pytest

from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.load import Recorder, offer_load
from outrider.loadtest.measure import Measurement, Summary, summarize
from outrider.loadtest.slo import is_good
from outrider.loadtest.workload import load_workload, make_offer

from .simulated_server import Script, SimulatedServer
from .virtual_time import run_in_virtual_time

PERCENTS = (1, 25, 50, 75, 90, 95, 99, 99.9)


def scripts(count: int) -> list[Script]:
    """Prefills of 20 ms and more, up to a second for some; answers of 2 to 30 chunks, each of one to four tokens."""
    generator = Random(7)
    made = []
    for _ in range(count):
        first = 0.02 + generator.expovariate(10)
        gap = generator.uniform(0.005, 0.05)
        chunks = [(first, 1)]
        chunks += [
            (gap * generator.uniform(0.5, 1.5), generator.randint(1, 4)) for _ in range(generator.randint(1, 30))
        ]
        made.append(Script(chunks=chunks))
    return made


async def load(server: SimulatedServer, count: int, **options: object) -> Measurement:
    async with server.running():
        config = LoadtestConfig(base_url=server.url, num_prompts=count, random_input_len=1, **options)
        recorder = Recorder(lambda _: None)
        await offer_load(make_offer(config, load_workload(config), "simulated", None), recorder)
    return recorder.measurement()


def check(summary: Summary, name: str, truth: Sequence[float]) -> None:
    """Within 2 % or 1 ms at every percentile."""
    assert summary.latencies[name].count == len(truth)
    expected = numpy.percentile(truth, PERCENTS)
    measured = [summary.latencies[name].percentiles[percent] for percent in PERCENTS]
    for true, found in zip(expected, measured, strict=True):
        assert found == pytest.approx(true, rel=0.02, abs=0.001), name


def test_every_percentile_is_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """TTFT, TPOT, gaps by chunk and end to end of a Poisson load on a server that has no queue."""
    made = scripts(400)
    summary = summarize(run_in_virtual_time(monkeypatch, load(SimulatedServer(made), 400, request_rate=40.0)), PERCENTS)
    totals = [sum(delay for delay, _ in script.chunks) for script in made]
    counts = [sum(tokens for _, tokens in script.chunks) for script in made]

    assert sum(counts) == summary.num_output_tokens
    check(summary, "ttft", [script.chunks[0][0] for script in made])
    check(summary, "e2el", totals)
    check(summary, "icl", [delay for script in made for delay, _ in script.chunks[1:]])
    check(
        summary,
        "tpot",
        [
            (total - script.chunks[0][0]) / (count - 1)
            for script, total, count in zip(made, totals, counts, strict=True)
        ],
    )
    check(
        summary,
        "itl",
        [delay / tokens for script in made for delay, tokens in script.chunks[1:] for _ in range(tokens)],
    )


def test_a_stall_is_seen_by_those_who_came_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds in which nothing is written, of ten: a closed loop sees one slow answer for each of its users."""
    answer, stall = Script(chunks=[(0.01, 1)]), (4.0, 6.0)
    server = SimulatedServer([answer], stall=stall)
    measurement = run_in_virtual_time(
        monkeypatch, load(server, 1000, request_rate=100.0, burstiness=math.inf, max_concurrency=2)
    )
    summary = summarize(measurement, PERCENTS)
    # Two slots, 100 arrivals a second, 200 answers a second: who comes at t waits for the stall and those before.
    free = [0.0, 0.0]
    truth = []
    for number in range(1, 1001):
        due = number / 100
        slot = free.index(min(free))
        done = max(due, free[slot]) + 0.01
        done = stall[1] if stall[0] <= done < stall[1] else done
        free[slot] = done
        truth.append(done - due)
    closed = SimulatedServer([answer], stall=stall)
    looped = summarize(run_in_virtual_time(monkeypatch, load(closed, 1000, max_concurrency=2)), PERCENTS)

    check(summary, "e2el_including_client_queue", truth)
    assert 0.5 < summary.latencies["e2el_including_client_queue"].percentiles[75] < 2.0
    assert looped.latencies["e2el"].percentiles[99] == pytest.approx(0.01, abs=0.001)


def test_goodput_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every ten answers two are late to begin, one is slow to go on, and one is refused."""
    good = Script(chunks=[(0.05, 1), (0.02, 1)])
    late, slow = Script(chunks=[(0.3, 1), (0.02, 1)]), Script(chunks=[(0.05, 1), (0.2, 1)])
    server = SimulatedServer([good] * 6 + [late] * 2 + [slow, Script(status=503)])
    measurement = run_in_virtual_time(monkeypatch, load(server, 100, request_rate=20.0, burstiness=math.inf))
    limits = {"ttft": 0.2, "tpot": 0.1}

    assert sum(is_good(record, limits) for record in measurement.records) == 60
    assert sum(is_good(record, {"ttft": 0.2}) for record in measurement.records) == 70
    assert sum(is_good(record, {"e2el": 0.26, "itl": 0.3}) for record in measurement.records) == 70
    assert sum(is_good(record, {"itl": 0.1}) for record in measurement.records) == 80


def test_a_sent_load_disperses_like_a_poisson_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent, not what was planned: the number of requests in a second varies by as much as its mean."""
    server = SimulatedServer([Script(chunks=[(0.2, 1)])])
    measurement = run_in_virtual_time(monkeypatch, load(server, 2000, request_rate=20.0, seed=3))
    start = measurement.started
    counts = numpy.bincount([int(record.sent - start) for record in measurement.records])[:-1]
    statistic = ((counts - counts.mean()) ** 2).sum() / counts.mean()  # chi-squared with so many degrees of freedom
    spread = math.sqrt(2 * (counts.size - 1))

    assert abs(statistic - (counts.size - 1)) < 3 * spread
    assert counts.mean() == pytest.approx(20, rel=0.06)
