"""What the next engine is sent when one fails."""

from outrider.engine.protocol import SamplingParams, Submit, TokenDelta, TokenLogprobs
from outrider.gateway.continuation import Continuation

PARAMS = SamplingParams(seed=5, max_tokens=20, max_time=10.0, num_prompt_logprobs=2)
SUBMIT = Submit(request_id="r", prompt_ids=[1, 2], params=PARAMS)


def test_prompt_and_emitted_tokens_are_sent_apart() -> None:
    """Under a new id, for the first engine may still hold the old one."""
    continuation = Continuation(SUBMIT, now=100.0)
    continuation.add(TokenDelta("r", [7]))
    continuation.add(TokenDelta("r", [8, 9]))
    continuation.num_resumes = 1
    sent = continuation.submit(now=100.0)

    assert ("r.1", [1, 2], [7, 8, 9]) == (sent.request_id, sent.prompt_ids, sent.output_ids)
    assert PARAMS == sent.params


def test_time_that_has_passed_is_not_given_again() -> None:
    """`max_time` counts from the request's start, on whatever engine."""
    continuation = Continuation(SUBMIT, now=100.0)
    continuation.num_resumes = 1

    assert [7.0, 0.0] == [continuation.submit(now).params.max_time for now in (103.0, 130.0)]


def test_log_probabilities_of_the_prompt_are_asked_for_once() -> None:
    """They came with the first token."""
    continuation = Continuation(SUBMIT, now=0.0)
    continuation.num_resumes = 1
    before = continuation.submit(0.0).params.num_prompt_logprobs
    continuation.add(TokenDelta("r", [7], prompt_logprobs=[TokenLogprobs(-1.0, [], [])]))

    assert (2, None) == (before, continuation.submit(0.0).params.num_prompt_logprobs)
