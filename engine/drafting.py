"""Owns the proposers of an engine: fills the drafts of a step, and counts what came of them.

A proposer that fails costs its request the draft of that step and nothing else.
"""

import logging
from collections.abc import Sequence as SequenceOf

from outrider.engine.scheduler import StepRow
from outrider.speculative.proposer import Draft, DraftCounts, DraftRequest, Proposer
from outrider.speculative.table import PROPOSERS

logger = logging.getLogger("outrider.engine")


class Drafting:
    """All proposers of one engine, by name."""

    def __init__(self) -> None:
        self._proposers: dict[str, Proposer] = {name: make() for name, make in PROPOSERS.items()}
        self.totals = {name: DraftCounts() for name in self._proposers}

    @property
    def methods(self) -> tuple[str, ...]:
        """The names that requests may use."""
        return tuple(self._proposers)

    def fill(self, rows: SequenceOf[StepRow]) -> None:
        """Gives each row that may have one the draft of the first of its methods that offers something."""
        for name, proposer in self._proposers.items():
            mine = [
                row
                for row in rows
                if row.max_draft_tokens > 0 and not row.draft and name in row.sequence.speculation.methods
            ]
            requests = [
                DraftRequest(row.sequence.request_id, row.sequence.token_ids, row.max_draft_tokens) for row in mine
            ]
            for row, draft in zip(mine, _propose(name, proposer, requests), strict=True):
                if draft.token_ids:
                    row.draft, row.method = draft.token_ids[: row.max_draft_tokens], name

    def count(self, row: StepRow, num_accepted: int) -> None:
        """Counts the verification of a row's draft, for its request and in all."""
        if row.method is None or not row.draft:
            return
        for counts in (row.sequence.draft_counts.setdefault(row.method, DraftCounts()), self.totals[row.method]):
            counts.add(len(row.draft), num_accepted)

    def forget(self, request_id: str) -> None:
        """Drops what the proposers keep for a request that ended."""
        for proposer in self._proposers.values():
            proposer.forget(request_id)


def _propose(name: str, proposer: Proposer, requests: list[DraftRequest]) -> list[Draft]:
    try:
        return proposer.propose(requests)
    except Exception:  # the boundary: a draft is a wish, and a proposer's bug must not touch an answer
        logger.exception("proposer %s failed; the step goes on without its drafts", name)
        return [Draft()] * len(requests)
