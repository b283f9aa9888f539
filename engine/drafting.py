"""Owns the proposers of an engine: fills the drafts of a step, and tells the controller what came of them.

A proposer that fails costs its requests its offers of that step and nothing else.
"""

import logging
import time
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch

from outrider.engine.draft_pruning import prune
from outrider.engine.protocol import SpeculationParams
from outrider.engine.runner import StepOutput
from outrider.engine.sampler import SampleRow
from outrider.engine.scheduler import StepRow
from outrider.engine.sequence import Sequence
from outrider.speculative.controller import Batch, Candidate, Controller
from outrider.speculative.costs import Costs
from outrider.speculative.limits import MAX_NODES
from outrider.speculative.proposer import Draft, DraftCounts, DraftRequest, Features, Observer, Proposer
from outrider.speculative.tree import TokenTree, chain, is_sound, merge

logger = logging.getLogger("outrider.engine")


@dataclass(frozen=True, slots=True)
class _Offer:
    """All that was offered to a request in a step and that its grammar allows, verified or not."""

    tree: TokenTree
    asked: tuple[str, ...]


class Drafting:
    """All proposers of one engine, by name, in the order in which they are asked."""

    def __init__(self, proposers: Mapping[str, Proposer], vocab_size: int, step_costs: Costs) -> None:
        """The model knows tokens below `vocab_size`; `step_costs` are those of its steps, as measured beforehand."""
        self._proposers: dict[str, Proposer] = {}
        self._observers: dict[str, Observer] = {}
        self._vocab_size = vocab_size
        self._controller = Controller(step_costs)
        self._offers: dict[str, _Offer] = {}  # of this step, by request
        self._seconds = 0.0  # that this step's proposers took
        self.totals: dict[str, DraftCounts] = {}
        for name, proposer in proposers.items():
            self.add(name, proposer)

    def add(self, name: str, proposer: Proposer) -> None:
        """Adds a proposer, to be asked behind the others."""
        self._proposers[name] = proposer
        if isinstance(proposer, Observer):
            self._observers[name] = proposer
        self._controller.add(name)
        self.totals[name] = DraftCounts()

    @property
    def methods(self) -> tuple[str, ...]:
        """The names that requests may use."""
        return tuple(self._proposers)

    def fill(self, rows: SequenceOf[StepRow], num_rows: int) -> None:
        """Gives each row that may have one a tree of what its methods offer, the first of them first.

        Args:
            rows: those that reach their end
            num_rows: tokens that the step computes without drafts, of all its rows
        """
        self._controller.begin_step()
        self._offers = {}
        self._seconds = 0.0
        drafted = {
            row.sequence.request_id: row
            for row in rows
            if row.max_draft_tokens > 0
            and not (row.sequence.speculation.auto and self._controller.rests(row.sequence.request_id))
        }
        if not drafted:
            return
        batch = Batch(num_rows, len(rows))
        offers: dict[str, dict[str, Draft]] = {request_id: {} for request_id in drafted}
        asked: dict[str, list[str]] = {request_id: [] for request_id in drafted}
        hoped: dict[str, float] = {}
        for name in self._controller.order(len(drafted), batch):
            asking = self._asking(name, drafted, batch, hoped)
            for key, draft in self._propose(name, self._proposers[name], asking).items():
                # One that reads features may lack them yet, or have text to read: that is no fault of its guesses.
                if draft.token_ids or not (draft.is_pending or name in self._observers):
                    asked[key].append(name)
                allowed = _allowed(draft, drafted[key].sequence)
                if allowed.token_ids:
                    offers[key][name] = allowed
                    if drafted[key].sequence.speculation.auto:
                        hoped[key] = self._controller.hope(key, merge(offers[key], MAX_NODES))
        candidates = []
        for key, names in asked.items():
            if names:
                row, speculation = drafted[key], drafted[key].sequence.speculation
                tree = _union(offers[key], speculation)
                self._offers[key] = _Offer(tree, tuple(names))
                bounds = row.max_draft_tokens, speculation.min_probability
                candidates.append(Candidate(key, tree, *bounds, speculation.auto))
        for candidate, nodes in zip(candidates, self._controller.cut(candidates, batch), strict=True):
            drafted[candidate.request_id].draft = candidate.tree.only(nodes)

    def count(self, row: StepRow, accepted: SequenceOf[int], emitted: SequenceOf[int]) -> None:
        """Counts the verification of a row's draft, for its request and in all; `accepted` are nodes."""
        sequence = row.sequence
        offer = self._offers.get(sequence.request_id)
        if offer is not None:
            self._controller.learn(sequence.request_id, offer.tree, offer.asked, emitted)
        if len(row.draft):
            sequence.whole_drafts.add(len(row.draft), len(accepted))
        for name in {name for origins in row.draft.origins for name in origins}:
            num_drafted = sum(name in origins for origins in row.draft.origins)
            num_accepted = sum(name in row.draft.origins[node] for node in accepted)
            for counts in self._counts(row, name):
                counts.add(num_drafted, num_accepted)

    def observe(self, outcomes: Mapping[str, SequenceOf[int]], rows: SequenceOf[StepRow], output: StepOutput) -> None:
        """Gives the proposers that read the target's features those of a step.

        Args:
            outcomes: by request, for the rows that reach their end, the accepted nodes whose keys and values count
            rows: of the step, with their sequences as they are behind it
            output: of the model on these rows
        """
        if not self._observers:
            return
        found: dict[str, list[Features]] = {name: [] for name in self._observers}
        first_row = first_logit = 0
        for row in rows:
            sequence = row.sequence
            nodes = outcomes.get(sequence.request_id)
            names = [name for name in self._observers if self._follows(name, sequence)]
            if names:
                one = _features(row, nodes, output, first_row, first_logit)
                for name in names:
                    found[name].append(one)
            first_row += row.num_tokens + len(row.draft)
            first_logit += 0 if nodes is None else 1 + len(row.draft)
        for name, features in found.items():
            if features:
                try:
                    self._observers[name].observe(features)
                except Exception:  # the boundary: as where it proposes
                    logger.exception("proposer %s cannot read the step's features", name)

    def learn_step(self, num_rows: int, seconds: float) -> None:
        """Tells the controller how long the whole step took, its drafting included."""
        self._controller.learn_step(num_rows, max(0.0, seconds - self._seconds))

    def forget(self, request_id: str) -> None:
        """Drops what is kept for a request that ended."""
        self._controller.forget(request_id)
        for proposer in self._proposers.values():
            proposer.forget(request_id)

    def _follows(self, name: str, sequence: Sequence) -> bool:
        """Whether a proposer that reads features is to have a request's."""
        speculation = sequence.speculation
        if name not in speculation.methods:
            return False
        return not (speculation.auto and self._controller.is_paused(sequence.request_id, name))

    def _asking(
        self, name: str, rows: Mapping[str, StepRow], batch: Batch, hoped: Mapping[str, float]
    ) -> dict[str, StepRow]:
        """The rows for which a proposer is asked: those that name it, and of the others those that it is worth it."""
        allowed = {key: row for key, row in rows.items() if name in row.sequence.speculation.methods}
        by_choice = [key for key, row in allowed.items() if row.sequence.speculation.auto]
        if not by_choice:
            return allowed
        left_out = set(by_choice).difference(self._controller.ask(name, by_choice, batch, hoped))
        return {key: row for key, row in allowed.items() if key not in left_out}

    def _propose(self, name: str, proposer: Proposer, rows: Mapping[str, StepRow]) -> dict[str, Draft]:
        """What a proposer offers to each request; nothing, counted as dropped, where it fails or offers no tree."""
        if not rows:
            return {}
        started = time.perf_counter()
        try:
            drafts = proposer.propose([_request(row, self._room(name, row)) for row in rows.values()])
            if len(drafts) != len(rows):
                raise ValueError(f"{len(drafts)} drafts for {len(rows)} requests")
        except Exception:  # the boundary: a draft is a wish, and a proposer's bug must not touch an answer
            logger.exception("proposer %s failed; the step goes on without its drafts", name)
            dropped = list(rows)
            drafts = [Draft()] * len(rows)
        else:
            seconds = time.perf_counter() - started
            self._controller.learn_cost(name, list(rows), seconds)
            self._seconds += seconds
            dropped = [key for key, one in zip(rows, drafts, strict=True) if not is_sound(one, self._vocab_size)]
            if dropped:
                logger.error("proposer %s offers no tree of tokens: it is left out of this step", name)
        for key in dropped:
            for counts in (*self._counts(rows[key], name), rows[key].sequence.whole_drafts):
                counts.num_dropped += 1
        return {key: Draft() if key in dropped else draft for key, draft in zip(rows, drafts, strict=True)}

    def _room(self, name: str, row: StepRow) -> int:
        """How many nodes a proposer may offer."""
        if not row.sequence.speculation.auto:
            return row.max_draft_tokens
        return min(row.max_draft_tokens, self._controller.wanted(row.sequence.request_id, name))

    def _counts(self, row: StepRow, name: str) -> tuple[DraftCounts, DraftCounts]:
        """Of one proposer, for the row's request and in all."""
        return row.sequence.draft_counts.setdefault(name, DraftCounts()), self.totals[name]


def _allowed(draft: Draft, sequence: Sequence) -> Draft:
    """What a request's grammar allows of an offer.

    The rest is known to miss: its proposer has given nothing there. What its scores are worth is learned of the tokens
    that could come, for it is asked of these alone.
    """
    return prune(draft, sequence.grammar) if sequence.grammar is not None and draft.token_ids else draft


def _union(offers: Mapping[str, Draft], speculation: SpeculationParams) -> TokenTree:
    """The tree of all offers, those of the request's first method first; where it wants no tree, one chain."""
    ranked = {name: offers[name] for name in speculation.methods if name in offers}
    if not speculation.tree:
        ranked = {name: chain(draft) for name, draft in list(ranked.items())[:1]}
    return merge(ranked, MAX_NODES)


def _features(
    row: StepRow, nodes: SequenceOf[int] | None, output: StepOutput, first_row: int, first_logit: int
) -> Features:
    """Of one row; its tokens and nodes lie from `first_row` on, what can be drawn behind it from `first_logit` on.

    `nodes` are the accepted ones, None of a row that does not reach its end: nothing is drawn behind that.
    """
    sequence = row.sequence
    accepted = nodes or ()
    taps = None
    if output.taps is not None:
        behind = first_row + row.num_tokens
        taps = output.taps[first_row:behind]
        if accepted:
            taps = torch.cat((taps, output.taps[[behind + node for node in accepted]]))
    hidden = None
    if nodes is not None:
        hidden = output.hidden[first_logit + (1 + accepted[-1] if accepted else 0)]
    start = sequence.num_computed - row.num_tokens - len(accepted)
    return Features(sequence.request_id, start, sequence.num_computed, sequence.num_preemptions, taps, hidden)


def _request(row: StepRow, max_tokens: int) -> DraftRequest:
    sequence = row.sequence
    return DraftRequest(
        sequence.request_id,
        sequence.token_ids,
        max_tokens,
        sequence.num_prompt_tokens,
        sequence.speculation.prediction_ids,
        sequence.grammar.forced_text if sequence.grammar is not None else None,
        sequence.block_ids,
        sequence.digests,
        sequence.num_preemptions,
        SampleRow(sequence.params, sequence.token_ids, sequence.num_prompt_tokens).draw,
        sequence.cache_salt,
    )
