"""Constrained answers at temperature 1, with every way of speculation in one batch. `make constrained` draws 1,000."""

from constrained import NUM_SCHEMAS, make_core, make_requests, run, schemas


def test_every_constrained_answer_is_valid_or_told_to_be_cut() -> None:
    """By an independent validator, on both backends, compact and laid out; none repeats whitespace."""
    core = make_core()
    score = run(core, make_requests(core, NUM_SCHEMAS, max_tokens=160))

    assert ([], []) == (score.invalid, score.looping)
    assert NUM_SCHEMAS == len(schemas()) == score.num_valid + score.num_cut
    assert score.num_valid > 10
    assert len(score.accepted) > 4
