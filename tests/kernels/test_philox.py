"""Counter-based noise."""

import numpy as np
import pytest

from outrider.kernels.philox import gumbel, philox4x32

# Known answers published with Random123 (kat_vectors, philox4x32 10).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFFFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "seed", "expected"), KNOWN_ANSWERS)
def test_published_known_answers(counter, seed, expected) -> None:
    """The generator is Philox4x32-10 and nothing else."""
    assert expected == tuple(int(word) for word in philox4x32(counter, seed))


def test_noise_of_a_token_does_not_depend_on_which_others_are_asked_for() -> None:
    """A pruned vocabulary draws with the same noise as the whole one."""
    every = gumbel(7, 11, np.arange(1000))
    some = np.array([3, 4, 997])

    assert every[some].tolist() == gumbel(7, 11, some).tolist()


@pytest.mark.parametrize("other", [(8, 11), (7, 12), (7 + 2**32, 11)])
def test_noise_depends_on_seed_and_position(other) -> None:
    """Both halves of the seed count."""
    tokens = np.arange(64)

    assert gumbel(7, 11, tokens).tolist() != gumbel(*other, tokens).tolist()


def test_noise_is_gumbel_distributed() -> None:
    """Mean and variance are Euler's constant and pi^2 / 6, and every value is in the promised range."""
    noise = gumbel(1, 2, np.arange(400_000))

    assert noise.dtype == np.float32
    assert -3.14 < noise.min()
    assert noise.max() < 22.89
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.02)
