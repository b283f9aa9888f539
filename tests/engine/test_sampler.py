"""The transforms of logits, each against its definition."""

import pytest
import torch

from outrider.engine.protocol import SamplingParams
from outrider.engine.sampler import Sampler, SampleRow

EOS = 3


def params(**options) -> SamplingParams:
    return SamplingParams(**{"seed": 0, "max_tokens": 9, "temperature": 1.0, **options})


def drawn_set(logits: list[float], row_params: SamplingParams, token_ids: list[int], num_prompt: int) -> set[int]:
    """Every token that 400 positions draw; positions move by growing the prompt."""
    seen: set[int] = set()
    sampler = Sampler((EOS,))
    for extra in range(400):
        row = SampleRow(row_params, [7] * extra + token_ids, num_prompt + extra)
        seen |= set(sampler.draw(torch.tensor([logits]), [row], None, []))
    return seen


FLAT = [0.0] * 8


@pytest.mark.parametrize(
    ("logits", "options", "expected"),
    [
        ([0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0], {"top_k": 2}, {2, 3}),
        # .5 .3 .2: the first two reach 0.6, the third is cut
        (torch.tensor([0.5, 0.3, 0.2]).log().tolist(), {"top_p": 0.6}, {0, 1}),
        (torch.tensor([0.5, 0.3, 0.2]).log().tolist(), {"top_p": 0.01}, {0}),
        # top-p counts on what top-k left: .35/.8 = .44, .25/.8 = .31, so 0.7 needs two of the three
        (torch.tensor([0.35, 0.25, 0.2, 0.15, 0.05]).log().tolist(), {"top_k": 3, "top_p": 0.7}, {0, 1}),
        (torch.tensor([0.6, 0.3, 0.1]).log().tolist(), {"min_p": 0.4}, {0, 1}),
        # entropy .90; the surprises .51, 1.20 and 2.30 are .39, .31 and 1.40 away from it
        (torch.tensor([0.6, 0.3, 0.1]).log().tolist(), {"typical_p": 0.25}, {1}),
        (torch.tensor([0.6, 0.3, 0.1]).log().tolist(), {"typical_p": 0.5}, {0, 1}),
        (FLAT, {"logit_bias": {5: 100.0}}, {5}),
        (FLAT, {"allowed_token_ids": (1, 6)}, {1, 6}),
        (FLAT, {"allowed_token_ids": (1, 6), "bad_words": ((6,),)}, {1}),
        ([5.0, 4.0, 0.0], {"temperature": 0.0}, {0}),
        ([0.0, 1.0, 0.9], {"top_p": 1e-320}, {1}),
        ([-5.0, 4.0, 3.9], {"temperature": 1e-320, "top_p": 0.9, "min_p": 0.1}, {1}),
    ],
)
def test_each_filter_keeps_what_it_should(logits, options, expected) -> None:
    """No more and no less."""
    assert expected == drawn_set(logits, params(**options), [7], 1)


def test_penalties_count_the_output_and_the_draft_but_not_the_prompt() -> None:
    """A row behind drafted tokens has them in its history, exactly as if they had been emitted."""
    row_params = params(temperature=0.0, presence_penalty=2.0, frequency_penalty=1.0)
    logits = torch.tensor([[5.0, 4.5, 4.0, 0.0]])
    sampler = Sampler((EOS,))

    plain = sampler.draw(logits.clone(), [SampleRow(row_params, [0, 1], 2)], None, [])
    emitted = sampler.draw(logits.clone(), [SampleRow(row_params, [0, 1, 0], 2)], None, [])
    drafted = sampler.draw(logits.clone(), [SampleRow(row_params, [0, 1], 2, (0,))], None, [])

    assert ([0], [1], [1]) == (plain, emitted, drafted)


def test_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_not() -> None:
    """It pushes down in both cases, and counts the prompt."""
    row_params = params(temperature=0.0, repetition_penalty=2.0)
    sampler = Sampler((EOS,))

    assert [1] == sampler.draw(torch.tensor([[5.0, 3.0, 1.0]]), [SampleRow(row_params, [0], 1)], None, [])
    assert [1] == sampler.draw(torch.tensor([[-1.0, -1.5]]), [SampleRow(row_params, [0], 1)], None, [])


def test_the_end_is_forbidden_before_the_minimum_length() -> None:
    """And allowed as soon as it is reached."""
    logits = torch.tensor([[0.0, 1.0, 0.0, 9.0]])
    row_params = params(temperature=0.0, min_tokens=1)
    sampler = Sampler((EOS,))

    assert [1] == sampler.draw(logits.clone(), [SampleRow(row_params, [0], 1)], None, [])
    assert [EOS] == sampler.draw(logits.clone(), [SampleRow(row_params, [0, 1], 1)], None, [])


def test_a_row_draws_the_same_among_others() -> None:
    """Requests with other parameters change nothing."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 50, generator=generator) * 3
    rows = [
        SampleRow(params(seed=1), [0], 1),
        SampleRow(params(seed=2, top_p=0.8, temperature=0.7), [0, 4], 1),
        SampleRow(params(seed=3, temperature=0.0), [0], 1),
        SampleRow(params(seed=4, top_k=5, min_p=0.1, frequency_penalty=0.5), [0, 4, 4], 1),
        SampleRow(params(seed=5, temperature=1.7, repetition_penalty=1.3), [0, 9], 1),
    ]
    sampler = Sampler((EOS,))

    together = sampler.draw(logits.clone(), rows, None, [])

    assert together == [sampler.draw(logits[i : i + 1].clone(), [row], None, [])[0] for i, row in enumerate(rows)]


def test_a_bad_word_of_several_tokens_is_stopped_before_its_last() -> None:
    """Its tokens stay possible elsewhere, and drafted tokens count as generated."""
    row_params = params(temperature=0.0, bad_words=((4, 5),))
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 9.0]])
    sampler = Sampler((EOS,))

    assert [5] == sampler.draw(logits.clone(), [SampleRow(row_params, [4], 1)], None, [])  # the 4 is the prompt's
    assert [4] == sampler.draw(logits.clone(), [SampleRow(row_params, [0, 4], 1)], None, [])
    assert [4] == sampler.draw(logits.clone(), [SampleRow(row_params, [0], 1, (4,))], None, [])
    assert [5] == sampler.draw(logits.clone(), [SampleRow(row_params, [0, 4, 1], 1)], None, [])
