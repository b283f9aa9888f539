"""A draft model's chains: walked in one C call as they are token by token."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.engine.config import BLOCK_SIZE
from outrider.engine.draft_model import ServedDraftModel
from outrider.engine.models.fused_model import FusedModel
from outrider.engine.models.loader import load_model
from outrider.kernels.draft_chains import draft_chains
from outrider.kernels.sample import Draw

NUM_BLOCKS, BLOCKS_EACH = 64, 8
VOCAB_SIZE = 128

requests = st.lists(
    st.tuples(
        st.integers(1, BLOCKS_EACH * BLOCK_SIZE - 9),  # tokens read before
        st.integers(1, 8),  # most
        st.sampled_from([0.0, 0.7, 1.3]),  # temperature
        st.booleans(),  # whether it is drafted for
    ),
    min_size=1,
    max_size=7,
)


@pytest.fixture(scope="module")
def model(tiny_folder) -> FusedModel:
    loaded = load_model(str(tiny_folder), num_threads=1).model
    assert isinstance(loaded, FusedModel)
    loaded.allocate_cache(NUM_BLOCKS, BLOCK_SIZE)
    return loaded


@settings(max_examples=25, deadline=None)
@given(requests, st.sampled_from([0.0, 0.01, 0.3]), st.integers(0, 1000))
@torch.inference_mode()
def test_chains_are_those_of_asking_token_by_token(model, asked, min_probability, seed) -> None:
    """Tokens, second choices and how likely each seems, for chains that end at different lengths."""
    generator = random.Random(seed)
    blocks = generator.sample(range(NUM_BLOCKS), len(asked) * BLOCKS_EACH)
    block_ids = [blocks[first : first + BLOCKS_EACH] for first in range(0, len(blocks), BLOCKS_EACH)]
    spans = [range(length) for length, _, _, _ in asked]
    tokens = [generator.randrange(VOCAB_SIZE) for _ in range(sum(map(len, spans)))]
    rows = [row for row, (_, _, _, drafted) in enumerate(asked) if drafted] or [0]
    draws = [Draw(seed + row, asked[row][0], asked[row][2]) for row in rows]
    most = [asked[row][1] for row in rows]
    served = ServedDraftModel(model, None)

    logits = served.read(block_ids, spans, tokens)[rows]
    expected = draft_chains(logits.clone(), draws, most, min_probability, _read_on(served, rows))
    served.read(block_ids, spans, tokens)
    found = served.draft(rows, logits, draws, most, min_probability)

    assert _without_chances(expected) == _without_chances(found)
    assert all(
        mine == pytest.approx(theirs, abs=1e-6)
        for mine, theirs in zip(_chances(found), _chances(expected), strict=True)
    )


def _read_on(served, rows):
    served._keep(rows)
    return served._read_on


def _without_chances(chains):
    return [[[token for token, _ in choices] for choices in chain] for chain in chains]


def _chances(chains):
    return [chance for chain in chains for choices in chain for _, chance in choices]
