"""Draws the tokens of a step: for each row one behind its newest token and one behind each drafted one.

A request's grammar walks along its draft once, before the forward pass: it fills a mask at each place and cuts the
draft where it is forbidden. Then it stands where it stood.
"""

import logging
import math
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch

from outrider.engine.protocol import TokenLogprobs
from outrider.engine.sampler import Sampler, SampleRow
from outrider.engine.scheduler import StepRow
from outrider.speculative.tree import ROOT
from outrider.structured.errors import StructuredError
from outrider.structured.grammar import Grammar
from outrider.structured.mask import allocate_bitmask

logger = logging.getLogger("outrider.engine")

LOWEST_LOGPROB = -9999.0  # stands for minus infinity, which JSON does not have; OpenAI's choice too


def fill_masks(rows: SequenceOf[StepRow], vocab_size: int) -> dict[str, torch.Tensor]:
    """The grammar masks of each constrained request, and its draft cut to what the grammar allows.

    Args:
        rows: those that reach their end
        vocab_size: width of the logits

    Returns:
        by request id, int32 (1 + len(draft), vocab_size / 32 rounded up): behind the newest token and behind each node.
        Of a grammar that cannot go on at all there are no masks.
    """
    masks: dict[str, torch.Tensor] = {}
    for row in rows:
        if row.sequence.grammar is not None:
            bitmask = allocate_bitmask(1 + len(row.draft), vocab_size)
            kept = _walk(row.sequence.grammar, row, bitmask)
            if kept is None or len(kept) < len(row.draft):
                row.draft = row.draft.only(kept or [])
                bitmask = bitmask[[0, *(1 + node for node in kept)] if kept is not None else []]
            masks[row.sequence.request_id] = bitmask
    return masks


@dataclass(frozen=True, slots=True)
class DrawnRow:
    """What was drawn for one row: one token more than its draft, None where no token can be drawn.

    `logprobs` has one entry per token where the request asks for them, else none.
    """

    token_ids: list[int | None]
    logprobs: list[TokenLogprobs]


def draw(
    sampler: Sampler, rows: SequenceOf[StepRow], logits: torch.Tensor, masks: dict[str, torch.Tensor]
) -> list[DrawnRow]:
    """The tokens drawn for each row.

    Args:
        sampler: of the model
        rows: those that reach their end
        logits: (sum of 1 + len(draft) over the rows, vocab_size) float32, overwritten
        masks: from `fill_masks` for the same rows
    """
    bitmask = allocate_bitmask(*logits.shape) if masks else None
    masked: list[int] = []
    stuck: list[int] = []
    sample_rows: list[SampleRow] = []
    for row in rows:
        sequence, first = row.sequence, len(sample_rows)
        places = range(first, first + 1 + len(row.draft))
        mask = masks.get(sequence.request_id)
        if mask is not None and bitmask is not None:
            bitmask[first : first + len(mask)] = mask
            masked += places[: len(mask)]
            stuck += places[len(mask) :]
        sample_rows += [
            SampleRow(sequence.params, sequence.token_ids, sequence.num_prompt_tokens, row.draft.tokens_to(node))
            for node in range(ROOT, len(row.draft))
        ]
    wanted = [index for index, row in enumerate(sample_rows) if row.params.num_logprobs is not None]
    raw = logits[wanted] if wanted else logits[:0]  # a copy: drawing overwrites the logits
    tokens = sampler.draw(logits, sample_rows, bitmask, masked)
    for index in stuck:
        tokens[index] = None
    reported = dict(zip(wanted, _logprobs(wanted, sample_rows, tokens, raw, logits), strict=True))
    drawn: list[DrawnRow] = []
    first = 0
    for row in rows:
        places = range(first, first + 1 + len(row.draft))
        first = places.stop
        logprobs = [reported[place] for place in places if place in reported]
        drawn.append(DrawnRow([tokens[place] for place in places], logprobs))
    return drawn


def prompt_logprobs(rows: SequenceOf[StepRow], logits: torch.Tensor) -> None:
    """Gives each sequence what the model thinks of the prompt tokens that a step has read.

    Args:
        rows: of the step
        logits: (sum of len(row.prompt_places), vocab_size) float32
    """
    if not len(logits):
        return
    first = 0
    for row in rows:
        places, sequence = row.prompt_places, row.sequence
        mine = logits[first : first + len(places)]
        first += len(places)
        for place, values in zip(places, mine, strict=True):
            count = sequence.params.num_prompt_logprobs or 0
            sequence.prompt_logprobs.append(_report(values, sequence.token_ids[place + 1], count))


def _logprobs(
    places: list[int],
    rows: list[SampleRow],
    tokens: list[int | None],
    raw: torch.Tensor,
    processed: torch.Tensor,
) -> list[TokenLogprobs]:
    """For each place, (num_places, vocab_size) of the model's logits and all rows of what was drawn from at hand."""
    found: list[TokenLogprobs] = []
    for place, row in zip(places, raw, strict=True):
        params, token_id = rows[place].params, tokens[place]
        if token_id is None:
            found.append(TokenLogprobs(0.0, [], []))
            continue
        found.append(
            _report(processed[place] if params.processed_logprobs else row, token_id, params.num_logprobs or 0)
        )
    return found


def _report(logits: torch.Tensor, token_id: int, count: int) -> TokenLogprobs:
    """Of one row (vocab_size,): a token's log-probability, and the `count` likeliest tokens."""
    values = logits.log_softmax(-1)
    best = values.topk(min(count, len(values)))
    # What is impossible has no logarithm that JSON could carry.
    top = [(i, v) for i, v in zip(best.indices.tolist(), best.values.tolist(), strict=True) if v > -math.inf]
    return TokenLogprobs(max(float(values[token_id]), LOWEST_LOGPROB), [i for i, _ in top], [v for _, v in top])


def _walk(grammar: Grammar, row: StepRow, bitmask: torch.Tensor) -> list[int] | None:
    """Fills the masks behind the newest token and behind each node that the grammar allows.

    Returns:
        those nodes, in their order; None where no token can follow the newest one
    """
    draft = row.draft
    kept: list[int] = []

    def visit(node: int) -> None:
        if grammar.is_done:
            return
        for token_id, child in draft.children[node].items():
            if not grammar.accept(token_id):
                continue
            try:
                grammar.fill_mask(bitmask, 1 + child)
            except StructuredError:
                pass  # a dead end: found out again, and told, if the token is drawn
            else:
                kept.append(child)
                visit(child)
            grammar.rollback(1)

    try:
        grammar.fill_mask(bitmask, 0)
    except StructuredError as error:
        logger.warning("request %s: %s", row.sequence.request_id, error)
        return None
    if len(draft):
        visit(ROOT)
    return kept
