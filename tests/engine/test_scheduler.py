"""Scheduling and blocks, as a state machine over plain data."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outrider.engine.blocks import BlockPool
from outrider.engine.protocol import SamplingParams, SpeculationParams
from outrider.engine.scheduler import Scheduler
from outrider.engine.sequence import Sequence, Status


def make_scheduler(num_blocks=10, block_size=4, max_num_seqs=3, budget=12) -> Scheduler:
    return Scheduler(
        BlockPool(num_blocks, block_size),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
    )


def make_sequence(name: str, prompt_len: int, max_tokens: int = 8, draft: int = 0) -> Sequence:
    return Sequence(
        request_id=name,
        token_ids=[0] * prompt_len,
        num_prompt_tokens=prompt_len,
        params=SamplingParams(seed=0, max_tokens=max_tokens),
        speculation=SpeculationParams(("ngram",), draft) if draft else SpeculationParams(),
        arrived=0.0,
    )


def finish_step(scheduler: Scheduler, num_accepted: int = 0) -> None:
    """What an engine does with the rows: computes them, and appends a token where a row reaches its end."""
    for row in scheduler.schedule():
        ends = row.reaches_end
        row.sequence.num_computed += row.num_tokens
        if ends:
            accepted = min(num_accepted, row.max_draft_tokens)
            row.sequence.token_ids += [0] * (1 + accepted)
            row.sequence.num_computed += accepted
            if row.sequence.num_output_tokens >= row.sequence.params.max_tokens:
                scheduler.finish(row.sequence)


def test_a_long_prompt_is_split_by_the_budget() -> None:
    """A step never computes more tokens than its budget."""
    scheduler = make_scheduler(budget=12)
    scheduler.add(make_sequence("a", 30))

    sizes = []
    for _ in range(3):
        (row,) = scheduler.schedule()
        sizes.append((row.num_tokens, row.reaches_end))
        row.sequence.num_computed += row.num_tokens

    assert [(12, False), (12, False), (6, True)] == sizes


def test_running_sequences_come_before_waiting_ones() -> None:
    """A newcomer's prompt takes what the decoding ones leave."""
    scheduler = make_scheduler(budget=12)
    scheduler.add(make_sequence("a", 4))
    finish_step(scheduler)
    scheduler.add(make_sequence("b", 20))

    rows = scheduler.schedule()

    assert [("a", 1), ("b", 11)] == [(row.sequence.request_id, row.num_tokens) for row in rows]


def test_the_youngest_gives_way_when_blocks_run_out() -> None:
    """It waits again, in front, with nothing computed."""
    scheduler = make_scheduler(num_blocks=10, block_size=4)
    old, young = make_sequence("old", 16, max_tokens=24), make_sequence("young", 16, max_tokens=24)
    scheduler.add(old)
    scheduler.add(young)
    while not scheduler.num_preemptions:
        finish_step(scheduler)
        scheduler.check_integrity()

    assert Status.RUNNING is old.status
    assert (Status.WAITING, 0, 1) == (young.status, young.num_computed, young.num_preemptions)


def test_drafts_never_pass_the_last_token_that_is_wanted() -> None:
    """With two tokens to go one may be drafted; the other is drawn."""
    scheduler = make_scheduler()
    sequence = make_sequence("a", 4, max_tokens=2, draft=6)
    scheduler.add(sequence)
    finish_step(scheduler)
    scheduler.finish(sequence)
    late = make_sequence("b", 4, max_tokens=3, draft=6)
    scheduler.add(late)
    scheduler.schedule()
    late.num_computed += 4
    late.token_ids.append(0)

    (row,) = scheduler.schedule()

    assert 1 == row.max_draft_tokens


def test_nobody_is_preempted_for_a_guess() -> None:
    """Drafts take free blocks only."""
    scheduler = make_scheduler(num_blocks=2, block_size=4, budget=12)
    for name in "ab":
        scheduler.add(make_sequence(name, 3, draft=6))
    finish_step(scheduler)

    rows = scheduler.schedule()

    assert [0, 0] == [row.max_draft_tokens for row in rows]
    assert 0 == scheduler.num_preemptions


def test_a_draft_of_an_older_one_takes_no_block_from_a_younger_one() -> None:
    """Speculation causes no preemption that plain decoding would not."""
    preemptions = []
    for draft in (0, 6):
        scheduler = make_scheduler(num_blocks=3, block_size=4, budget=16)
        for name in "ab":
            scheduler.add(make_sequence(name, 3, max_tokens=4 if name == "a" else 3, draft=draft))
        while scheduler.has_work:
            finish_step(scheduler)
        preemptions.append(scheduler.num_preemptions)

    assert preemptions[0] == preemptions[1]


def test_integrity_finds_a_block_that_two_hold() -> None:
    """The check is worth running: it sees what it is for."""
    pool = BlockPool(4, 4)
    first: list[int] = []
    pool.grow(first, 8)

    with pytest.raises(AssertionError, match="leaked or shared"):
        pool.check_integrity([first, first[:1]])


class Traffic(RuleBasedStateMachine):
    """Random arrivals, aborts and acceptances; every record agrees after each, and everybody is served in the end."""

    @initialize(num_blocks=st.integers(10, 16), max_num_seqs=st.integers(1, 5))
    def start(self, num_blocks, max_num_seqs) -> None:
        self.scheduler = make_scheduler(num_blocks=num_blocks, max_num_seqs=max_num_seqs)
        self.sequences: list[Sequence] = []

    @rule(prompt_len=st.integers(1, 30), max_tokens=st.integers(1, 10), draft=st.integers(0, 6))
    def arrive(self, prompt_len, max_tokens, draft) -> None:
        sequence = make_sequence(str(len(self.sequences)), prompt_len, max_tokens, draft)
        self.sequences.append(sequence)
        self.scheduler.add(sequence)

    @rule(num_accepted=st.integers(0, 6))
    def step(self, num_accepted) -> None:
        finish_step(self.scheduler, num_accepted)

    @precondition(lambda self: self.scheduler.has_work)
    @rule(data=st.data())
    def abort(self, data) -> None:
        alive = [sequence for sequence in self.sequences if sequence.status is not Status.FINISHED]
        self.scheduler.finish(data.draw(st.sampled_from(alive)))

    @invariant()
    def records_agree(self) -> None:
        if hasattr(self, "scheduler"):
            self.scheduler.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for _ in range(3000):
            if not self.scheduler.has_work:
                break
            finish_step(self.scheduler)
        assert not self.scheduler.has_work, "somebody starves"
        assert self.scheduler.blocks.num_used == 0


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40)
