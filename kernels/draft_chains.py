"""Chains of drafted tokens: a model goes on from what it has drawn itself, for many requests at once.

This is the definition, which asks a model token by token. `Decoder.draft_chains` walks in C (`draft_chains.c`): between
two passes of a small model Python would take half as long as the model does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from outrider.kernels.sample import Draw, sample_several

CHOICES = 2  # tokens at each place: the one that the chain goes on with, and the second choice

Chain = list[list[tuple[int, float]]]  # for each place its choices, at least one, and how likely each seems


def draft_chains(
    logits: torch.Tensor,
    draws: Sequence[Draw],
    most: Sequence[int],
    min_probability: float,
    read_on: Callable[[Sequence[int], Sequence[int]], torch.Tensor],
) -> list[Chain]:
    """The definition.

    Args:
        logits: float32 (num_chains, vocab_size), behind the newest token of each chain's request
        draws: of each chain's first token
        most: tokens of each chain, at least 1
        min_probability: that a chain as a whole must have, by the model's own word, to go on
        read_on: reads one token more of some of the chains read last, from their places among those and these tokens;
            returns logits as above
    """
    found: list[Chain] = [[] for _ in draws]
    chances = [1.0] * len(draws)
    active = list(range(len(draws)))
    while active:
        now = [replace(draws[chain], position=draws[chain].position + len(found[chain])) for chain in active]
        going: list[int] = []
        for row, choices in enumerate(sample_several(logits, now, CHOICES)):
            if not choices:  # no numbers: nothing is drafted behind this
                continue
            chain = active[row]
            found[chain].append(choices)
            chances[chain] *= choices[0][1]
            if len(found[chain]) < most[chain] and chances[chain] >= min_probability:
                going.append(row)
        active = [active[row] for row in going]
        if active:
            logits = read_on(going, [found[chain][-1][0][0] for chain in active])
    return found
