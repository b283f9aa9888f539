"""Masks and the Gumbel-max draw in Triton, under Triton's interpreter."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.kernels import philox
from outrider.kernels.gpu.sample import apply_bitmask, gumbel, gumbel_noise, sample_on_gpu
from outrider.kernels.sample import _sample_in_triton, draw_reference
from outrider.structured import mask

KNOWN_ANSWERS = [  # as in tests/kernels/test_philox.py
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFFFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@triton.jit
def _philox_kernel(counter, seed, out):
    at = tl.arange(0, 1)
    c0, c1 = tl.load(counter + at).to(tl.uint32), tl.load(counter + 1 + at).to(tl.uint32)
    c2, c3 = tl.load(counter + 2 + at).to(tl.uint32), tl.load(counter + 3 + at).to(tl.uint32)
    w0, w1, w2, w3 = tl.philox(tl.load(seed), c0, c1, c2, c3, n_rounds=10)
    tl.store(out + at, w0.to(tl.int64))
    tl.store(out + 1 + at, w1.to(tl.int64))
    tl.store(out + 2 + at, w2.to(tl.int64))
    tl.store(out + 3 + at, w3.to(tl.int64))


@triton.jit
def _gumbel_kernel(bits, out, size: tl.constexpr):
    at = tl.arange(0, size)
    tl.store(out + at, gumbel(tl.load(bits + at).to(tl.uint32)))


@triton.jit
def _noise_kernel(seed, position, out, first_group, num_groups: tl.constexpr):
    noise = gumbel_noise(tl.load(seed), tl.load(position), first_group, num_groups)
    tl.store(out + tl.arange(0, 4 * num_groups), noise)


def noise_of(seed: int, position: int, first_group: int, num_groups: int) -> torch.Tensor:
    out = torch.full((4 * num_groups,), torch.nan)
    seeds, positions = torch.tensor([seed], dtype=torch.uint64), torch.tensor([position])
    _noise_kernel[1,](seeds, positions, out, first_group, num_groups)
    return out


@pytest.mark.parametrize(("counter", "seed", "expected"), KNOWN_ANSWERS)
def test_the_generator_gives_the_published_known_answers(counter, seed, expected) -> None:
    """Triton's own generator is the one of kernels/philox.py, and stays so."""
    out = torch.zeros(4, dtype=torch.int64)
    _philox_kernel[1,](torch.tensor(counter), torch.tensor([seed], dtype=torch.uint64), out)

    assert expected == tuple(out.tolist())


def test_noise_is_as_good_as_float32_allows() -> None:
    """Of random, small and large words, and around the seam of the two formulas: as near as float32 rounds."""
    around = [np.arange(0, 500), 2**30 + np.arange(-500, 500), 2**32 - 1 - np.arange(0, 500)]
    bits = np.concatenate([*around, np.random.default_rng(0).integers(0, 2**32, 2**16 - 2000)]).astype(np.uint32)
    out = torch.full((len(bits),), torch.nan)
    _gumbel_kernel[1,](torch.from_numpy(bits.astype(np.int64)), out, len(bits))
    exact = -np.log(-np.log1p(-(bits.astype(np.float64) + 0.5) / 2**32))
    error = np.abs(out.numpy() - exact) / np.maximum(np.abs(exact), 1)

    assert error.max() < 5e-7


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**64 - 1), position=st.integers(0, 2**31 - 1), first_group=st.sampled_from([0, 1, 512, 40_000])
)
def test_a_token_has_the_noise_of_the_definition(seed, position, first_group) -> None:
    """Each of four neighbours has its own word; all bits of the seed count."""
    expected = philox.gumbel(seed, position, 4 * first_group + np.arange(64))

    torch.testing.assert_close(
        noise_of(seed, position, first_group, 16), torch.from_numpy(expected), rtol=1e-6, atol=1e-6
    )


def test_draws_follow_their_distribution() -> None:
    """Chi-square with 7 degrees of freedom stays below the 0.1 % point."""
    scores = torch.tensor([4.0, 1.0, 0.0, 0.5, 1.5, 2.0, 0.0, 3.0])
    drawn = (scores + noise_of(3, 5, 0, 2 * 4096).view(4096, 8)).argmax(-1)
    expected = scores.softmax(-1) * 4096
    observed = torch.bincount(drawn, minlength=8)

    assert ((observed - expected) ** 2 / expected).sum() < 24.3


@pytest.mark.parametrize(("vocab_size", "scale"), [(1, 1.0), (5, 1.0), (130, 0.0), (1000, 8.0), (4097, 1.0)])
def test_the_kernel_draws_what_the_definition_draws(vocab_size, scale) -> None:
    """In one tile and in several, with forbidden tokens and rows without noise; one row forbids everything.

    The two round noise differently, so that a draw may differ where two tokens are within 1e-6 of each other: of a
    million draws about one does, of these none.
    """
    num_rows = 48
    wide = torch.randn(num_rows, vocab_size + 7, generator=torch.Generator().manual_seed(vocab_size)) * scale
    scores = wide[:, :vocab_size]
    scores[:, 1::3] = -torch.inf
    scores[5] = -torch.inf
    seeds = [2**64 - 1 - row**9 for row in range(num_rows)]
    positions = [row * 1000 for row in range(num_rows)]
    greedy = [row % 5 == 0 for row in range(num_rows)]
    leaders = scores.argmax(-1).tolist()
    drawn = draw_reference(scores, leaders, seeds, positions)
    expected = [leaders[row] if greedy[row] else drawn[row] for row in range(num_rows)]

    assert expected == _sample_in_triton(scores, seeds, positions, greedy).tolist()


def test_the_lowest_id_wins_ties() -> None:
    """Within a tile and between tiles."""
    scores = torch.zeros(3, 6000)
    scores[0, [70, 5, 5999]] = 1
    scores[1, [5999, 3000]] = 1
    drawn = sample_on_gpu(scores, torch.zeros(3, dtype=torch.int64), torch.zeros(3).int(), torch.ones(3).bool())

    assert [5, 3000, 0] == drawn.tolist()


def test_what_is_no_number_stays_within_the_vocabulary() -> None:
    """The sampler reports such a row; until then its token must exist."""
    scores = torch.full((2, 70), torch.nan)
    scores[1, 9] = 0
    drawn = sample_on_gpu(scores, torch.zeros(2).long(), torch.zeros(2).long(), torch.tensor([True, False]))

    assert [0, 9] == drawn.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab_size", [32, 130, 2050])
@pytest.mark.parametrize("rows", [None, [0, 2], []])
def test_masks_forbid_what_the_cpu_forbids(rows, vocab_size, dtype) -> None:
    """A cleared bit is minus infinity; other rows stay as they are, and so does what lies beside them."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(3, vocab_size + 5, generator=generator).to(dtype)
    bitmask = torch.randint(-(2**31), 2**31, (3, -(-vocab_size // 32)), generator=generator).int()
    expected = wide.clone()
    logits = expected[:, :vocab_size].clone()
    mask.apply_bitmask(logits, bitmask, rows)
    expected[:, :vocab_size] = logits

    apply_bitmask(wide[:, :vocab_size], bitmask, None if rows is None else torch.tensor(rows, dtype=torch.int64))

    assert torch.equal(expected, wide)


def test_operations_refuse_what_they_do_not_take() -> None:
    """By name, before anything is launched."""
    logits, seeds, greedy = torch.zeros(2, 64), torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.bool)
    for scores, *vectors in [
        (logits.double(), seeds, seeds, greedy),
        (torch.zeros(64, 2).t(), seeds, seeds, greedy),
        (logits, seeds.float(), seeds, greedy),
        (logits, seeds, seeds[:1], greedy),
        (logits, seeds, seeds, seeds),
    ]:
        with pytest.raises(ValueError, match="sample_on_gpu"):
            sample_on_gpu(scores, *vectors)
    for bits, rows in [
        (torch.zeros(2, 1).int(), None),
        (torch.zeros(2, 2).long(), None),
        (torch.zeros(2, 2).int(), torch.zeros(1)),
    ]:
        with pytest.raises(ValueError, match="apply_bitmask"):
            apply_bitmask(logits, bits, rows)
