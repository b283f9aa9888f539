"""One load test from its options to its report and result: joins the parts, owns no figures."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from outrider.loadtest.client import find_model, open_session
from outrider.loadtest.config import LoadtestConfig
from outrider.loadtest.errors import InvalidOptionError
from outrider.loadtest.load import Recorder, offer_load, warm_up
from outrider.loadtest.measure import Summary, summarize
from outrider.loadtest.record import Record
from outrider.loadtest.report import render_report, take_notes
from outrider.loadtest.result import current_date, result_fields, result_path, save_result
from outrider.loadtest.workload import load_workload, request_body


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run leaves; `path` is None where --no-save-result was asked for."""

    summary: Summary
    report: str
    result: dict[str, object]
    path: Path | None
    is_partial: bool

    def save(self) -> None:
        """Writes the result file, if one is wanted."""
        if self.path is not None:
            save_result(self.path, self.result)


def run_loadtest(config: LoadtestConfig, *, api_key: str | None, on_record: Callable[[Record], None]) -> Outcome:
    """Runs to the end, or to Ctrl-C: what was measured by then is the outcome.

    Raises LoadtestError where nothing can be measured, and KeyboardInterrupt where nothing was being measured yet.
    """
    config = replace(config, base_url=config.base_url.rstrip("/"))
    workload = load_workload(config)
    if config.result_dir is not None and config.save_result:
        _make_folder(config.result_dir)
    model = asyncio.run(_find_model(config, api_key))
    warmups = [request_body(sample, config, model) for sample in workload.warmups]
    bodies = [request_body(sample, config, model) for sample in workload.samples]
    recorder = Recorder(on_record)
    is_partial = False
    try:
        asyncio.run(_measure(config, api_key, warmups, bodies, recorder))
    except KeyboardInterrupt:
        if not recorder.has_started:
            raise
        is_partial = True
    date = current_date()
    summary = summarize(recorder.measurement(), config.metric_percentiles)
    notes = take_notes(config, summary, num_repeated=workload.num_repeated, is_partial=is_partial)
    return Outcome(
        summary=summary,
        report=render_report(config, summary, notes),
        result=result_fields(config, model, summary, date=date, is_partial=is_partial, notes=notes),
        path=result_path(config, model, date) if config.save_result else None,
        is_partial=is_partial,
    )


def _make_folder(path: Path) -> None:
    """Before the run, to fail then rather than after it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidOptionError(f"--result-dir {path}: {error.strerror}") from error


async def _find_model(config: LoadtestConfig, api_key: str | None) -> str:
    async with open_session(api_key) as session:
        return await find_model(session, config.base_url, config.model)


async def _measure(
    config: LoadtestConfig, api_key: str | None, warmups: Sequence[bytes], bodies: Sequence[bytes], recorder: Recorder
) -> None:
    async with open_session(api_key) as session:
        await warm_up(config, session, warmups)
        await offer_load(config, session, bodies, recorder)
