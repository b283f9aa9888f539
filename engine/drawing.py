"""Draws the tokens of a step: for each row one behind its newest token and one behind each drafted one.

Each request's grammar walks along its draft to fill the masks, and is left as it was.
"""

import logging
from collections.abc import Sequence as SequenceOf

import torch

from outrider.engine.sampler import Sampler, SampleRow
from outrider.engine.scheduler import StepRow
from outrider.structured.errors import StructuredError
from outrider.structured.grammar import Grammar
from outrider.structured.mask import allocate_bitmask

logger = logging.getLogger("outrider.engine")


def draw(sampler: Sampler, rows: SequenceOf[StepRow], logits: torch.Tensor) -> list[list[int | None]]:
    """The tokens drawn for each row, one more than its draft. None where no token can be drawn.

    Args:
        sampler: of the model
        rows: those that reach their end
        logits: (sum of 1 + len(draft) over the rows, vocab_size) float32, overwritten
    """
    has_grammar = any(row.sequence.grammar is not None for row in rows)
    bitmask = allocate_bitmask(*logits.shape) if has_grammar else None
    masked: list[int] = []
    unusable = set(logits.isnan().any(dim=-1).nonzero()[:, 0].tolist())
    sample_rows: list[SampleRow] = []
    for row in rows:
        sequence = row.sequence
        if sequence.grammar is not None and bitmask is not None:
            first = len(sample_rows)
            try:
                masked += _fill_masks(sequence.grammar, row.draft, bitmask, first)
            except StructuredError as error:
                logger.warning("request %s: %s", sequence.request_id, error)
                unusable.update(range(first, first + 1 + len(row.draft)))
        sample_rows += [
            SampleRow(sequence.params, sequence.token_ids, sequence.num_prompt_tokens, row.draft[:depth])
            for depth in range(1 + len(row.draft))
        ]
    logits[list(unusable)] = 0.0
    tokens = sampler.draw(logits, sample_rows, bitmask, masked)
    for index in unusable:
        tokens[index] = None
    remaining = iter(tokens)
    return [[next(remaining) for _ in range(1 + len(row.draft))] for row in rows]


def legal_prefix(grammar: Grammar | None, draft: tuple[int, ...]) -> tuple[int, ...]:
    """The drafted tokens up to the first that the grammar forbids, or to the one that ends it."""
    if grammar is None:
        return draft
    num_accepted = 0
    for token_id in draft:
        if not grammar.accept(token_id):
            break
        num_accepted += 1
        if grammar.is_done:
            break
    grammar.rollback(num_accepted)
    return draft[:num_accepted]


def _fill_masks(grammar: Grammar, draft: tuple[int, ...], bitmask: torch.Tensor, first: int) -> list[int]:
    """Fills the mask rows from `first` on; returns those that constrain."""
    masked = []
    num_accepted = 0
    try:
        for depth in range(1 + len(draft)):
            if grammar.fill_mask(bitmask, first + depth):
                masked.append(first + depth)
            if depth < len(draft):
                grammar.accept(draft[depth])
                num_accepted += 1
    finally:
        grammar.rollback(num_accepted)
    return masked
