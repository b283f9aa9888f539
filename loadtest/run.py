"""One load test from its options to its report and result: joins the parts, owns no figures."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from outrider.loadtest.client import find_model, open_session
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.datasets import Tasks
from outrider.loadtest.detail import detailed_fields
from outrider.loadtest.errors import InvalidOptionError, ServerUnusableError
from outrider.loadtest.findings import Findings
from outrider.loadtest.health import faults
from outrider.loadtest.job import Offer
from outrider.loadtest.measure import Measurement, Summary, summarize
from outrider.loadtest.processes import run_offer
from outrider.loadtest.record import Failure, FailureKind, Record
from outrider.loadtest.report import render_report, take_notes
from outrider.loadtest.result import current_date, result_fields, result_path, save_result
from outrider.loadtest.scrape import ServerSeries, watch
from outrider.loadtest.slo import is_good
from outrider.loadtest.validity import judge_all
from outrider.loadtest.workload import Workload, load_workload, make_offer

RETRY_SECONDS = 0.5
"""Between two looks for a server that is not there yet."""

OnRecord = Callable[[Record], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run leaves; `path` is None where --no-save-result was asked for."""

    config: LoadtestConfig
    findings: Findings
    report: str
    result: Mapping[str, object]
    path: Path | None

    @property
    def summary(self) -> Summary:
        """The figures."""
        return self.findings.summary

    def save(self) -> None:
        """Writes the result file, if one is wanted. Raises OSError."""
        if self.path is not None:
            detail = detailed_fields(self.findings) if self.config.save_detailed else {}
            save_result(self.path, {**self.result, **detail}, is_appended=self.config.append_result)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can begin: the server has been asked, the dataset read."""

    config: LoadtestConfig
    workload: Workload
    model: str
    offer: Offer


def prepare(
    config: LoadtestConfig, *, api_key: str | None, tasks: Tasks | None = None, patience: float = 0.0
) -> Prepared:
    """Waits so many seconds for a server that is not there yet. Raises LoadtestError where nothing can be measured."""
    config = replace(config, base_url=config.base_url.rstrip("/"))
    workload = load_workload(config, tasks)
    if config.result_dir is not None and config.save_result:
        _make_folder(config.result_dir)
    key = api_key if config.api_keys is None else config.api_keys.names[0]
    model = asyncio.run(_await_model(config, key, patience))
    return Prepared(config, workload, model, make_offer(config, workload, model, api_key))


def run_loadtest(
    config: LoadtestConfig, *, api_key: str | None, on_record: OnRecord, tasks: Tasks | None = None
) -> Outcome:
    """Runs to the end, or to Ctrl-C: what was measured by then is the outcome.

    Raises LoadtestError where nothing can be measured, and KeyboardInterrupt where nothing was being measured yet.
    """
    return run_prepared(prepare(config, api_key=api_key, tasks=tasks), api_key=api_key, on_record=on_record)


def run_prepared(prepared: Prepared, *, api_key: str | None, on_record: OnRecord) -> Outcome:
    """As `run_loadtest`."""
    config, offer = prepared.config, prepared.offer
    if config.is_burst and config.num_warmups:
        offer = _warm_up(offer)
    with watch(config.base_url, config.scrape_interval) as series:
        measurement, is_interrupted = run_offer(offer, config.processes, on_record)
    lost = _lost_server(prepared, measurement, api_key)
    findings = _find(prepared, measurement, series, is_partial=is_interrupted or lost is not None, lost_server=lost)
    return Outcome(
        config=config,
        findings=findings,
        report=render_report(config, findings),
        result=result_fields(config, findings),
        path=result_path(config, prepared.model, findings.date) if config.save_result else None,
    )


def _find(
    prepared: Prepared, measurement: Measurement, series: ServerSeries, *, is_partial: bool, lost_server: str | None
) -> Findings:
    config, workload = prepared.config, prepared.workload
    summary = summarize(measurement, config.metric_percentiles)
    findings = Findings(
        date=current_date(),
        model=prepared.model,
        variant=",".join(config.speculation.names) if config.speculation else None,
        num_requests=workload.num_requests,
        measurement=measurement,
        samples=workload.samples,
        summary=summary,
        variants=_variants(config, workload, measurement),
        num_good=sum(is_good(each, config.goodput) for each in measurement.measured) if config.goodput else None,
        validity=judge_all(dict(enumerate(workload.samples)), measurement.measured),
        server=[{"seconds": each.at - measurement.measured_from, **each.gauges} for each in series.samples],
        faults=faults(summary, has_schedule=config.has_arrivals),
        notes=(),
        is_partial=is_partial,
        lost_server=lost_server,
    )
    return replace(findings, notes=take_notes(config, findings, num_repeated=workload.num_repeated))


def _variants(config: LoadtestConfig, workload: Workload, measurement: Measurement) -> dict[str, Summary]:
    """A summary for each speculation, where requests have several."""
    names = config.speculation.names if config.speculation else ()
    if len(names) < 2:
        return {}
    of = [sample.variant for sample in workload.samples]
    return {
        name: summarize(
            replace(measurement, records=tuple(each for each in measurement.records if of[each.index] == name)),
            config.metric_percentiles,
        )
        for name in names
    }


def _warm_up(offer: Offer) -> Offer:
    """Sends the warm-ups of a burst, all at once; returns the rest. Raises ServerUnusableError if every one failed."""
    warmups = replace(offer, jobs=tuple(job for job in offer.jobs if job.is_warmup))
    measurement, is_interrupted = run_offer(warmups, 1, lambda _: None)
    if is_interrupted:
        raise KeyboardInterrupt
    failures = [record.outcome for record in measurement.records if isinstance(record.outcome, Failure)]
    if failures and len(failures) == len(measurement.records):
        raise ServerUnusableError(f"no warm-up request succeeded: {failures[0].message}")
    return replace(offer, jobs=tuple(job for job in offer.jobs if not job.is_warmup))


def _lost_server(prepared: Prepared, measurement: Measurement, api_key: str | None) -> str | None:
    """What became of a server that broke connections and does not answer any more, or broke too many."""
    broken = [
        record.outcome
        for record in measurement.records
        if isinstance(record.outcome, Failure) and record.outcome.kind is FailureKind.CONNECTION
    ]
    if not broken or len(broken) == len(measurement.records):
        return None  # a server that was never there is told of by the failures themselves
    message = f"the server was lost after {len(measurement.records) - len(broken)} answers ({broken[-1].message})"
    if measurement.has_lost_server:
        return message
    try:
        asyncio.run(_find_model(prepared.config, api_key))
    except ServerUnusableError:
        return message
    return None


def _make_folder(path: Path) -> None:
    """Before the run, to fail then rather than after it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidOptionError(f"--result-dir {path}: {error.strerror}") from error


async def _await_model(config: LoadtestConfig, api_key: str | None, patience: float) -> str:
    try:
        async with asyncio.timeout(patience or None):
            while True:
                try:
                    return await _find_model(config, api_key)
                except ServerUnusableError:
                    if not patience:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)
    except TimeoutError:
        return await _find_model(config, api_key)  # says what is wrong now


async def _find_model(config: LoadtestConfig, api_key: str | None) -> str:
    async with open_session(api_key, config.headers, is_insecure=config.is_insecure) as session:
        return await find_model(session, config.base_url, config.served_model_name or config.model)
