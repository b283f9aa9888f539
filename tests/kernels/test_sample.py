"""The Gumbel-max draw."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.kernels.philox import gumbel
from outrider.kernels.sample import Draw, sample, sample_reference, sample_several, several_reference


def draw_many(scores: list[float], count: int) -> np.ndarray:
    rows = torch.tensor(scores).expand(count, -1).contiguous()
    return np.array(sample(rows, [Draw(seed=5, position=position) for position in range(count)]))


def chi_square(drawn: np.ndarray, scores: list[float]) -> float:
    expected = torch.tensor(scores).softmax(-1).numpy() * len(drawn)
    observed = np.bincount(drawn, minlength=len(scores))
    return float(((observed - expected) ** 2 / expected).sum())


def test_greedy_takes_the_lowest_id_of_a_tie() -> None:
    """The same rule everywhere, or equal scores would tell speculation from plain decoding."""
    assert [1] == sample(torch.tensor([[0.0, 2.0, 2.0]]), [Draw(0, 0, temperature=0.0)])


def test_draws_follow_a_flat_distribution() -> None:
    """Chi-square with 7 degrees of freedom stays below the 0.1 % point."""
    scores = [0.1, 0.0, -0.1, 0.2, 0.0, 0.1, -0.2, 0.0]

    assert chi_square(draw_many(scores, 200_000), scores) < 24.3


def test_draws_follow_a_peaked_distribution() -> None:
    """As above, where one token has most of the probability."""
    scores = [4.0, 1.0, 0.0, 0.5, 1.5, 2.0, 0.0, 1.0]

    assert chi_square(draw_many(scores, 200_000), scores) < 24.3


def test_a_forbidden_token_is_never_drawn() -> None:
    """Minus infinity means never, whatever the noise."""
    assert 1 not in draw_many([0.0, float("-inf"), 0.0], 2_000)


@pytest.mark.parametrize("vocab_size", [1, 3, 4, 5, 63, 64, 97, 4096])
@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0, 40.0])
def test_the_kernel_draws_what_the_definition_draws(vocab_size, scale) -> None:
    """Flat, peaked and in between, with forbidden tokens among them, at large seeds and positions, greedy ones too."""
    generator = torch.Generator().manual_seed(vocab_size)
    logits = torch.randn(64, vocab_size, generator=generator) * scale
    logits[:, 1::3] = float("-inf")
    draws = [Draw(2**64 - 1 - row, row * 1000, temperature=(0.0, 0.7, 1.0)[row % 3]) for row in range(64)]

    assert sample_reference(logits.clone(), draws) == sample(logits, draws)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_kernel_keeps_what_the_definition_keeps(data) -> None:
    """Any filters on any shape of scores, but for what float32 rounds at the edge of a share."""
    vocab_size = data.draw(st.sampled_from([2, 15, 16, 17, 300, 5000]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    logits = torch.randn(3, vocab_size, generator=generator) * data.draw(st.sampled_from([0.0, 0.5, 3.0, 30.0]))
    if data.draw(st.booleans()):
        logits = logits.round()  # many ties
    if data.draw(st.booleans()):
        logits[:, ::2] = float("-inf")
    draw = Draw(
        seed=1,
        position=2,
        temperature=data.draw(st.sampled_from([0.3, 1.0, 2.0])),
        top_k=data.draw(st.sampled_from([0, 1, 2, 40, 299, 4000])),
        top_p=data.draw(st.sampled_from([1.0, 1e-6, 0.1, 0.5, 0.9, 0.9999])),
        min_p=data.draw(st.sampled_from([0.0, 0.001, 0.2, 1.0])),
        keeps_scores=True,
    )
    expected, actual = logits.clone(), logits.clone()
    sample_reference(expected, [draw] * 3)
    sample(actual, [draw] * 3)

    for row, (mine, theirs) in enumerate(zip(actual, expected, strict=True)):
        stays, should_stay = mine > -torch.inf, theirs > -torch.inf
        assert torch.equal(mine[stays & should_stay], theirs[stays & should_stay])
        # Sums are rounded differently: one token on the very edge of a share may fall either way, or some tiny ones.
        edge = (logits[row] / draw.temperature).softmax(-1)[stays ^ should_stay]
        assert len(edge) <= 1 or float(edge.sum()) < 2e-5


def test_thousands_of_equal_tokens_are_cut_at_the_share() -> None:
    """Added one by one in float32, each would be rounded to the same side: four tokens too few stayed."""
    logits = (torch.randn(3, 5000, generator=torch.Generator().manual_seed(0)) * 0.5).round()
    draws = [Draw(1, 2, temperature=0.3, top_k=4000, top_p=0.9999, keeps_scores=True)] * 3
    expected, actual = logits.clone(), logits.clone()
    sample_reference(expected, draws)
    sample(actual, draws)

    assert torch.equal(actual.isfinite(), expected.isfinite())


@pytest.mark.parametrize("vocab_size", [4, 100])
def test_a_row_of_no_numbers_gives_no_token(vocab_size) -> None:
    """NaN anywhere, infinity, and every token forbidden; the rows beside it are drawn."""
    logits = torch.zeros(5, vocab_size)
    logits[0, 1] = float("nan")
    logits[1, 2] = float("inf")
    logits[2] = float("-inf")
    draws = [Draw(row, 3, temperature=row % 2) for row in range(5)]

    for function in (sample, sample_reference):
        drawn = function(logits.clone(), draws)
        assert [None, None, None] == drawn[:3]
        assert None not in drawn[3:]


def test_skipping_hopeless_tokens_changes_no_draw() -> None:
    """The pruned draw equals the argmax over the whole vocabulary."""
    scores = torch.randn(50, 512, generator=torch.Generator().manual_seed(0)) * 8
    scores -= scores.amax(-1, keepdim=True)
    whole = [int((row.numpy() + gumbel(3, index, np.arange(512))).argmax()) for index, row in enumerate(scores)]

    assert whole == sample(scores, [Draw(3, position) for position in range(50)])


def test_a_row_draws_the_same_token_in_any_batch() -> None:
    """A draw depends on its own scores, seed and position alone, and so does what is left of its scores."""
    logits = torch.randn(8, 1000, generator=torch.Generator().manual_seed(1))
    draws = [Draw(row, row, top_p=0.8, top_k=500, keeps_scores=True) for row in range(8)]
    together = logits.clone()
    drawn = sample(together, draws)

    for row, draw in enumerate(draws):
        alone = logits[row : row + 1].clone()
        assert [drawn[row]] == sample(alone, [draw])
        assert torch.equal(alone[0], together[row])


def test_logits_that_the_kernel_cannot_take_are_refused() -> None:
    """Never a silent wrong number."""
    with pytest.raises(ValueError, match="sample takes contiguous float32 logits"):
        sample(torch.zeros(4, 8).t(), [Draw(0, 0)] * 8)
    with pytest.raises(ValueError, match="sample takes contiguous float32 logits"):
        sample(torch.zeros(1, 8, dtype=torch.bfloat16), [Draw(0, 0)])


@given(st.integers(0, 2**31), st.sampled_from([5, 64, 1000]), st.sampled_from([0.0, 0.7, 1.3]))
@settings(max_examples=40, deadline=None)
def test_several_tokens_are_those_drawn_one_after_the_other(seed: int, vocab_size: int, temperature: float) -> None:
    """In C as by the definition, with filters and forbidden tokens, and the logits stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn(3, vocab_size, generator=generator)
    logits[1, : vocab_size // 2] = -torch.inf
    before = logits.clone()
    draws = [Draw(seed, 4, temperature), Draw(seed, 9, temperature, top_k=3), Draw(seed, 7, temperature, top_p=0.8)]

    found, expected = sample_several(logits, draws, 4), several_reference(logits, draws, 4)

    assert torch.equal(before, logits)
    for mine, wanted in zip(found, expected, strict=True):
        assert [token_id for token_id, _ in mine] == [token_id for token_id, _ in wanted]
        assert [share for _, share in mine] == pytest.approx([share for _, share in wanted], abs=1e-4)


def test_several_tokens_of_a_row_without_numbers_are_none() -> None:
    """And of a row with one token left there is one."""
    logits = torch.full((2, 40), torch.nan)
    logits[1] = -torch.inf
    logits[1, 7] = 0.0

    assert [[], [(7, 1.0)]] == sample_several(logits, [Draw(1, 1), Draw(1, 1)], 3)
