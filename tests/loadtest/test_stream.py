"""From stamped reads to an answer."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.loadtest.record import Answer, Chunk, Failure, FailureKind, Speculation
from outrider.loadtest.stream import Read, parse_stream, tokens_per_chunk

from .simulated_server import event

DONE = b"data: [DONE]\n\n"
FINISH = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})


def content(text: str, **fields: object) -> bytes:
    return event({"choices": [{"delta": {"content": text}}], **fields})


def usage(num_tokens: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": num_tokens}})


def parse(*reads: tuple[float, bytes]) -> Answer | Failure:
    return parse_stream([Read(received, data) for received, data in reads])


def parse_answer(*reads: tuple[float, bytes]) -> Answer:
    answer = parse(*reads)
    assert isinstance(answer, Answer)
    return answer


def test_the_first_chunk_is_the_first_that_carries_something() -> None:
    """A role alone is no token."""
    role = event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    answer = parse_answer((1.0, role), (2.0, content("a")), (3.0, content("b")), (4.0, FINISH), (5.0, usage(2) + DONE))

    assert answer.chunks == (Chunk(2.0, 1), Chunk(3.0, 1))
    assert answer.ended == 4.0
    assert (answer.num_prompt_tokens, answer.num_output_tokens, answer.has_usage) == (5, 2, True)


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": "a"}},
        {"delta": {"reasoning": "a"}},
        {"delta": {"reasoning_content": "a"}},
        {"delta": {"refusal": "a"}},
        {"delta": {"tool_calls": [{"function": {"name": "a", "arguments": ""}}]}},
        {"delta": {"tool_calls": [{"function": {"arguments": "a"}}]}},
        {"text": "a"},
    ],
)
def test_every_kind_of_delta_counts_as_a_chunk(choice: dict[str, object]) -> None:
    """Time to the first token is time to the first of any kind."""
    answer = parse_answer((1.0, event({"choices": [choice]})), (2.0, FINISH + usage(1) + DONE))

    assert answer.chunks == (Chunk(1.0, 1),)


@given(st.lists(st.integers(1, 300), max_size=20))
def test_reads_may_cut_events_anywhere(cuts: list[int]) -> None:
    """Where the network cuts the stream changes times, never content; characters of several bytes are cut too."""
    whole = b": comment\r\n\r\n" + content("né") + content("日本") + FINISH + usage(7) + DONE
    bounds = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})
    pieces = [whole[start:end] for start, end in pairwise(bounds)]
    answer = parse_answer(*((float(number), piece) for number, piece in enumerate(pieces)))

    assert [chunk.num_tokens for chunk in answer.chunks] == tokens_per_chunk([2, 2], [None, None], 7)


def test_chunks_of_one_read_share_its_time_and_are_counted() -> None:
    """A reader of the report sees how much of ITL is zero for this reason."""
    answer = parse_answer((1.0, content("a") + content("b")), (2.0, content("c") + FINISH + DONE))

    assert [1.0, 1.0, 2.0] == [chunk.received for chunk in answer.chunks]
    assert answer.num_coalesced == 1


def test_running_usage_tells_the_tokens_of_each_chunk_exactly() -> None:
    """Servers send it on request (continuous_usage_stats)."""
    answer = parse_answer(
        (1.0, content("a long text of one token", usage={"completion_tokens": 1})),
        (2.0, content("b", usage={"completion_tokens": 4})),
        (3.0, FINISH + usage(4) + DONE),
    )

    assert [1, 3] == [chunk.num_tokens for chunk in answer.chunks]


def test_without_usage_chunks_are_counted() -> None:
    """The count is a guess, and marked as one."""
    answer = parse_answer((1.0, content("a")), (2.0, content("b") + FINISH))

    assert (2, False) == (answer.num_output_tokens, answer.has_usage)


def test_speculation_is_taken_from_the_last_chunk() -> None:
    """The server reports what it drafted for this request."""
    counts = {"num_draft_tokens": 8, "num_accepted_draft_tokens": 6, "num_spec_steps": 2, "mean_acceptance_length": 4.0}
    last = event({"choices": [], "metrics": {"speculative_decoding": counts}})
    answer = parse_answer((1.0, content("a") + FINISH + last + DONE))

    assert answer.speculation == Speculation(8, 6, 2)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (content("a"), FailureKind.INCOMPLETE),
        (b"", FailureKind.INCOMPLETE),
        (content("a") + event({"error": {"message": "engine died"}}), FailureKind.STREAM_ERROR),
        (b"data: {not json\n\n", FailureKind.STREAM_ERROR),
    ],
)
def test_a_broken_stream_is_a_failure(data: bytes, kind: FailureKind) -> None:
    """Half an answer would have a flattering latency."""
    failure = parse((1.0, data))

    assert isinstance(failure, Failure)
    assert failure.kind is kind


def test_an_empty_answer_is_complete() -> None:
    """A model may end at once."""
    answer = parse_answer((1.0, FINISH + usage(1) + DONE))

    assert ((), 1) == (answer.chunks, answer.num_output_tokens)


def test_tokens_are_shared_by_length_of_text() -> None:
    """Chunks of one token and of three, with texts to match; each brought at least one token."""
    assert [1, 3, 3, 1] == tokens_per_chunk([5, 15, 15, 5], [None] * 4, 8)
    assert [4, 1, 1] == tokens_per_chunk([100, 1, 1], [None] * 3, 6)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50), st.integers(0, 500))
def test_shared_tokens_sum_to_the_total(lengths: list[int], num_tokens: int) -> None:
    """No token is lost in rounding, and none is missing from a chunk while there are enough."""
    counts = tokens_per_chunk(lengths, [None] * len(lengths), num_tokens)

    assert sum(counts) == num_tokens
    assert min(counts) >= (1 if num_tokens >= len(lengths) else 0)
