"""Owns the proposers of an engine: fills the drafts of a step, and counts what came of them.

A proposer that fails costs its requests its offers of that step and nothing else.
"""

import logging
from collections.abc import Sequence as SequenceOf

from outrider.engine.scheduler import StepRow
from outrider.speculative.forced import Encode
from outrider.speculative.proposer import Draft, DraftCounts, DraftRequest, Proposer
from outrider.speculative.table import make_proposers
from outrider.speculative.tree import MAX_NODES, chain, is_sound, merge

logger = logging.getLogger("outrider.engine")


class Drafting:
    """All proposers of one engine, by name."""

    def __init__(self, encode: Encode, vocab_size: int) -> None:
        """`encode` gives a text's token ids, without special tokens; the model knows those below `vocab_size`."""
        self._proposers: dict[str, Proposer] = make_proposers(encode)
        self._vocab_size = vocab_size
        self.totals = {name: DraftCounts() for name in self._proposers}

    @property
    def methods(self) -> tuple[str, ...]:
        """The names that requests may use."""
        return tuple(self._proposers)

    def fill(self, rows: SequenceOf[StepRow]) -> None:
        """Gives each row that may have one the union of what its methods offer, the first of them first."""
        drafted = [row for row in rows if row.max_draft_tokens > 0]
        if not drafted:
            return
        offers: dict[str, dict[str, Draft]] = {row.sequence.request_id: {} for row in drafted}
        for name, proposer in self._proposers.items():
            asking = [row for row in drafted if name in row.sequence.speculation.methods]
            requests = [
                DraftRequest(
                    row.sequence.request_id,
                    row.sequence.token_ids,
                    row.max_draft_tokens,
                    row.sequence.num_prompt_tokens,
                    row.sequence.speculation.prediction_ids,
                    row.sequence.grammar.forced_text if row.sequence.grammar is not None else None,
                )
                for row in asking
            ]
            for row, draft in zip(asking, _propose(name, proposer, requests, self._vocab_size), strict=True):
                if draft is None:
                    for counts in (*self._counts(row, name), row.sequence.whole_drafts):
                        counts.num_dropped += 1
                elif draft.token_ids:
                    offers[row.sequence.request_id][name] = draft
        for row in drafted:
            mine = offers[row.sequence.request_id]
            ranked = {name: mine[name] for name in row.sequence.speculation.methods if name in mine}
            if not row.sequence.speculation.tree:
                ranked = {name: chain(draft) for name, draft in list(ranked.items())[:1]}
            row.draft = merge(ranked, min(row.max_draft_tokens, MAX_NODES))

    def count(self, row: StepRow, accepted: SequenceOf[int]) -> None:
        """Counts the verification of a row's draft, for its request and in all; `accepted` are nodes."""
        if len(row.draft):
            row.sequence.whole_drafts.add(len(row.draft), len(accepted))
        for name in {name for origins in row.draft.origins for name in origins}:
            num_drafted = sum(name in origins for origins in row.draft.origins)
            num_accepted = sum(name in row.draft.origins[node] for node in accepted)
            for counts in self._counts(row, name):
                counts.add(num_drafted, num_accepted)

    def forget(self, request_id: str) -> None:
        """Drops what the proposers keep for a request that ended."""
        for proposer in self._proposers.values():
            proposer.forget(request_id)

    def _counts(self, row: StepRow, name: str) -> tuple[DraftCounts, DraftCounts]:
        """Of one proposer, for the row's request and in all."""
        return row.sequence.draft_counts.setdefault(name, DraftCounts()), self.totals[name]


def _propose(name: str, proposer: Proposer, requests: list[DraftRequest], vocab_size: int) -> SequenceOf[Draft | None]:
    """A draft for each request, None for one that is dropped."""
    try:
        drafts = [draft if is_sound(draft, vocab_size) else None for draft in proposer.propose(requests)]
        if len(drafts) != len(requests):
            raise ValueError(f"{len(drafts)} drafts for {len(requests)} requests")
    except Exception:  # the boundary: a draft is a wish, and a proposer's bug must not touch an answer
        logger.exception("proposer %s failed; the step goes on without its drafts", name)
        return [None] * len(requests)
    if None in drafts:
        logger.error("proposer %s offers no tree of tokens: it is left out of this step", name)
    return drafts
