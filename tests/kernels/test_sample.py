"""The Gumbel-max draw."""

import numpy as np
import pytest
import torch

from outrider.kernels.philox import gumbel
from outrider.kernels.sample import sample, sample_reference


def draw_many(scores: list[float], count: int) -> np.ndarray:
    rows = torch.tensor(scores).expand(count, -1).contiguous()
    return np.array(sample(rows, [5] * count, list(range(count)), [False] * count))


def chi_square(drawn: np.ndarray, scores: list[float]) -> float:
    expected = torch.tensor(scores).softmax(-1).numpy() * len(drawn)
    observed = np.bincount(drawn, minlength=len(scores))
    return float(((observed - expected) ** 2 / expected).sum())


def test_greedy_takes_the_lowest_id_of_a_tie() -> None:
    """The same rule everywhere, or equal scores would tell speculation from plain decoding."""
    assert [1] == sample(torch.tensor([[0.0, 2.0, 2.0]]), [0], [0], [True])


def test_draws_follow_a_flat_distribution() -> None:
    """Chi-square with 7 degrees of freedom stays below the 0.1 % point."""
    scores = [0.1, 0.0, -0.1, 0.2, 0.0, 0.1, -0.2, 0.0]

    assert chi_square(draw_many(scores, 20_000), scores) < 24.3


def test_draws_follow_a_peaked_distribution() -> None:
    """As above, where one token has most of the probability."""
    scores = [4.0, 1.0, 0.0, 0.5, 1.5, 2.0, 0.0, 1.0]

    assert chi_square(draw_many(scores, 20_000), scores) < 24.3


def test_a_forbidden_token_is_never_drawn() -> None:
    """Minus infinity means never, whatever the noise."""
    assert 1 not in draw_many([0.0, float("-inf"), 0.0], 2_000)


@pytest.mark.parametrize("vocab_size", [1, 3, 4, 5, 97, 4096])
@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0, 40.0])
def test_the_kernel_draws_what_the_definition_draws(vocab_size, scale) -> None:
    """Flat, peaked and in between, with forbidden tokens among them, at large seeds and positions."""
    generator = torch.Generator().manual_seed(vocab_size)
    scores = torch.randn(64, vocab_size, generator=generator) * scale
    scores[:, 1::3] = float("-inf")
    leaders = scores.argmax(-1).tolist()
    seeds = [2**64 - 1 - row for row in range(64)]
    positions = [row * 1000 for row in range(64)]

    assert sample_reference(scores, leaders, seeds, positions) == sample(scores, seeds, positions, [False] * 64)


def test_skipping_hopeless_tokens_changes_no_draw() -> None:
    """The pruned draw equals the argmax over the whole vocabulary."""
    scores = torch.randn(50, 512, generator=torch.Generator().manual_seed(0)) * 8
    whole = [int((row.numpy() + gumbel(3, index, np.arange(512))).argmax()) for index, row in enumerate(scores)]

    assert whole == sample(scores, [3] * 50, list(range(50)), [False] * 50)


def test_a_row_draws_the_same_token_in_any_batch() -> None:
    """A draw depends on its own scores, seed and position alone."""
    scores = torch.randn(8, 100, generator=torch.Generator().manual_seed(1))
    together = sample(scores, list(range(8)), list(range(8)), [False] * 8)

    assert together == [sample(scores[i : i + 1].clone(), [i], [i], [False])[0] for i in range(8)]
