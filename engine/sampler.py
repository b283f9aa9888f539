"""From logits to one drawn token per row: every transform a request asks for, in one fixed order, then the draw.

Order: allowed tokens, bad words, logit bias, penalties, grammar mask, minimum length, temperature, top-k, top-p, min-p,
typical-p. Rows of one request that lie behind drafted tokens are treated exactly as they would be without a draft:
their history includes the draft.
"""

import contextlib
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch

from outrider.engine.protocol import SamplingParams
from outrider.kernels.filters import keep_typical
from outrider.kernels.sample import Draw, sample, scale_and_filter
from outrider.structured.mask import apply_bitmask

MIN_TEMPERATURE = 1e-6  # a lower one that is not 0 counts as this


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One row of logits: whose it is, and the tokens before the one to be drawn."""

    params: SamplingParams
    token_ids: SequenceOf[int]  # prompt, then output
    num_prompt_tokens: int
    draft: SequenceOf[int] = ()  # the drafted tokens that this row lies behind

    @property
    def position(self) -> int:
        """Absolute position of the token to be drawn."""
        return len(self.token_ids) + len(self.draft)

    @property
    def draw(self) -> Draw:
        """What the request asks of the draw itself."""
        params = self.params
        temperature = max(params.temperature, MIN_TEMPERATURE) if params.temperature > 0 else 0.0
        keeps_scores = params.processed_logprobs and params.num_logprobs is not None
        return Draw(params.seed, self.position, temperature, params.top_k, params.top_p, params.min_p, keeps_scores)


class Sampler:
    """Draws tokens for rows of many requests, each by its own parameters."""

    def __init__(self, eos_token_ids: tuple[int, ...]) -> None:
        self._eos_token_ids = eos_token_ids

    def draw(
        self, logits: torch.Tensor, rows: SequenceOf[SampleRow], bitmask: torch.Tensor | None, masked: list[int]
    ) -> list[int | None]:
        """Draws one token id per row; None for a row that is not numbers, or whose every token is forbidden.

        Args:
            logits: (num_rows, vocab_size) float32, overwritten
            rows: one per row of logits
            bitmask: (num_rows, vocab_size / 32 rounded up) int32 grammar mask on the CPU, or None
            masked: the rows whose mask holds
        """
        # What is made below is made on the logits' device; on the CPU asking for it would only cost time.
        with contextlib.nullcontext() if logits.device.type == "cpu" else logits.device:
            return self._draw(logits, rows, bitmask, masked)

    def _draw(
        self, logits: torch.Tensor, rows: SequenceOf[SampleRow], bitmask: torch.Tensor | None, masked: list[int]
    ) -> list[int | None]:
        for index, row in enumerate(rows):
            _edit(logits[index], row)
        if bitmask is not None and masked:
            apply_bitmask(logits, bitmask, masked)
        for index, row in enumerate(rows):
            if row.position - row.num_prompt_tokens < row.params.min_tokens:
                logits[index, [*self._eos_token_ids, *row.params.stop_token_ids]] = float("-inf")
        draws = [row.draw for row in rows]
        typical = [index for index, row in enumerate(rows) if row.params.typical_p < 1.0 and draws[index].temperature]
        if typical:  # behind the other filters, so that nothing is left of those for the draw
            scores = logits[typical]
            scale_and_filter(scores, [draws[index] for index in typical])
            shares = [rows[index].params.typical_p for index in typical]
            keep_typical(scores, torch.tensor(shares, dtype=torch.float32))
            logits[typical] = scores
            for index in typical:
                draws[index] = Draw(draws[index].seed, draws[index].position, keeps_scores=draws[index].keeps_scores)
        return sample(logits, draws)


def _ends_of_bad_words(row: SampleRow) -> list[int]:
    """The tokens that would complete a bad word of what was generated."""
    output = [*row.token_ids[row.num_prompt_tokens :], *row.draft]
    return [
        word[-1]
        for word in row.params.bad_words
        if len(word) == 1 or tuple(output[-(len(word) - 1) :]) == tuple(word[:-1])
    ]


def _edit(logits: torch.Tensor, row: SampleRow) -> None:
    """Allowed and bad tokens, logit bias and penalties, on one row (vocab_size,)."""
    params = row.params
    if params.allowed_token_ids:
        allowed = torch.tensor(params.allowed_token_ids)
        kept = logits[allowed]
        logits.fill_(float("-inf"))
        logits[allowed] = kept
    if params.bad_words:
        logits[_ends_of_bad_words(row)] = float("-inf")
    if params.logit_bias:
        biases = torch.tensor(list(params.logit_bias.values()), dtype=torch.float32)
        logits.index_add_(0, torch.tensor(list(params.logit_bias)), biases)
    if params.frequency_penalty or params.presence_penalty:
        output = torch.tensor([*row.token_ids[row.num_prompt_tokens :], *row.draft], dtype=torch.int64)
        seen, counts = torch.unique(output, return_counts=True)
        logits[seen] -= params.frequency_penalty * counts.float() + params.presence_penalty
    if params.repetition_penalty != 1.0:
        seen = torch.tensor([*row.token_ids, *row.draft]).unique()
        values = logits[seen]
        logits[seen] = torch.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
