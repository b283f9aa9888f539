"""Scheduling and blocks, as a state machine over plain data."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outrider.engine.blocks import BlockPool
from outrider.engine.config import BLOCK_SIZE
from outrider.engine.protocol import SamplingParams, SpeculationParams
from outrider.engine.scheduler import Scheduler
from outrider.engine.sequence import Sequence, Status


def make_scheduler(num_blocks=10, block_size=4, max_num_seqs=3, budget=12) -> Scheduler:
    return Scheduler(
        BlockPool(num_blocks, block_size),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
    )


def make_sequence(
    name: str, prompt: int | list[int], max_tokens: int = 8, draft: int = 0, salt: str = "", priority: int = 0
) -> Sequence:
    """A prompt that is a number has so many tokens, which no other name's prompt has."""
    token_ids = [ord(name[0])] * prompt if isinstance(prompt, int) else list(prompt)
    return Sequence(
        request_id=name,
        token_ids=token_ids,
        num_prompt_tokens=len(token_ids),
        params=SamplingParams(seed=0, max_tokens=max_tokens),
        speculation=SpeculationParams(("ngram",), draft) if draft else SpeculationParams(),
        arrived=0.0,
        cache_salt=salt,
        priority=priority,
    )


def finish_step(scheduler: Scheduler, num_accepted: int = 0) -> None:
    """What an engine does with the rows: computes them, and appends a token where a row reaches its end."""
    for row in scheduler.schedule():
        ends = row.reaches_end
        row.sequence.num_computed += row.num_tokens
        scheduler.publish(row.sequence)
        if ends:
            accepted = min(num_accepted, row.max_draft_tokens)
            row.sequence.token_ids += [0] * (1 + accepted)
            row.sequence.num_computed += accepted
            scheduler.publish(row.sequence)
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


def test_lower_values_are_started_first() -> None:
    """Whoever came first among equals."""
    scheduler = make_scheduler(max_num_seqs=1, budget=4)
    for name, priority in (("a", 0), ("b", 5), ("c", -1), ("d", 0)):
        scheduler.add(make_sequence(name, 2, max_tokens=1, priority=priority))

    served = []
    while scheduler.has_work:
        served += [row.sequence.request_id for row in scheduler.schedule()]
        scheduler.finish(scheduler.running[0])

    assert ["c", "a", "d", "b"] == served


def test_higher_values_give_way_first() -> None:
    """Though they were there before."""
    scheduler = make_scheduler(num_blocks=10, block_size=4)
    first, second = make_sequence("a", 16, 24, priority=1), make_sequence("b", 16, 24)
    scheduler.add(first)
    finish_step(scheduler)
    scheduler.add(second)
    while not scheduler.num_preemptions:
        finish_step(scheduler)
        scheduler.check_integrity()

    assert (Status.WAITING, Status.RUNNING) == (first.status, second.status)


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

    with pytest.raises(AssertionError, match="holders differ"):
        pool.check_integrity([first, first[:1]])


def test_a_prompt_begins_with_the_blocks_of_an_earlier_one() -> None:
    """Whole blocks alone, and never all of it: the last token must be computed to draw the next."""
    scheduler = make_scheduler(block_size=4)
    scheduler.add(make_sequence("a", [1, 2, 3, 4, 5, 6, 7, 8], max_tokens=1))
    finish_step(scheduler)

    cached = []
    for prompt in ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 9, 6, 7, 8, 9], [2, 2, 3, 4, 5]):
        sequence = make_sequence("b", prompt, max_tokens=1)
        scheduler.add(sequence)
        finish_step(scheduler)
        cached.append(sequence.num_cached_tokens)

    assert [4, 8, 4, 0] == cached
    assert sum(cached) == scheduler.num_cached_tokens


def test_running_sequences_share_blocks() -> None:
    """The first need not have ended; the shared block is held by both."""
    scheduler = make_scheduler(block_size=4, num_blocks=4)
    scheduler.add(make_sequence("a", [1, 2, 3, 4, 5]))
    finish_step(scheduler)
    scheduler.add(make_sequence("b", [1, 2, 3, 4, 6]))
    finish_step(scheduler)

    first, second = scheduler.running
    assert first.block_ids[0] == second.block_ids[0]
    assert scheduler.blocks.num_used == 3
    scheduler.check_integrity()


def test_a_prompt_that_is_being_computed_is_waited_for() -> None:
    """Two requests with one beginning compute it once, though they come together; later ones do not overtake."""
    scheduler = make_scheduler(num_blocks=20, block_size=4, budget=30)
    prompt = list(range(1, 14))
    first, twin, other = make_sequence("a", prompt), make_sequence("b", [*prompt, 99]), make_sequence("c", 5)
    for sequence in (first, twin, other):
        scheduler.add(sequence)

    finish_step(scheduler)
    assert scheduler.running == [first]
    finish_step(scheduler)

    assert scheduler.running == [first, twin, other]
    assert (twin.num_cached_tokens, scheduler.num_cached_tokens) == (12, 12)
    scheduler.check_integrity()


def test_nobody_waits_for_a_prompt_that_was_given_up() -> None:
    """An aborted leader leaves its followers to compute the beginning themselves."""
    scheduler = make_scheduler(num_blocks=20, block_size=4, budget=8)
    leader, follower = make_sequence("a", list(range(20))), make_sequence("b", list(range(20)))
    scheduler.add(leader)
    scheduler.add(follower)
    finish_step(scheduler)
    assert scheduler.running == [leader]
    scheduler.finish(leader)

    finish_step(scheduler)
    assert scheduler.running == [follower]
    assert follower.num_cached_tokens == 8


def test_little_of_the_cache_is_held_for_nothing() -> None:
    """At mixed lengths, in blocks of 32: what running requests hold beyond their tokens, over a whole run."""
    scheduler = make_scheduler(num_blocks=4000, block_size=BLOCK_SIZE, max_num_seqs=32, budget=1024)
    source = random.Random(0)
    for number in range(64):
        prompt = [number * 10_000 + place for place in range(source.randint(64, 1500))]
        scheduler.add(make_sequence(str(number), prompt, max_tokens=source.randint(16, 256)))
    held = unused = 0
    while scheduler.has_work:
        finish_step(scheduler)
        for sequence in scheduler.running:
            if sequence.num_output_tokens:
                slots = len(sequence.block_ids) * BLOCK_SIZE
                held += slots
                unused += slots - len(sequence.token_ids)

    assert unused / held < 0.04, f"{unused / held:.2%} of the slots held are unused"


def test_other_salts_share_nothing() -> None:
    """A tenant cannot find out what others asked."""
    scheduler = make_scheduler(block_size=4)
    for salt in ("", "mine", "mine"):
        scheduler.add(make_sequence("a", [1, 2, 3, 4, 5], max_tokens=1, salt=salt))
        finish_step(scheduler)

    assert scheduler.num_cached_tokens == 4


def test_without_prefix_caching_nothing_is_kept() -> None:
    """It can be turned off."""
    scheduler = Scheduler(BlockPool(8, 4), max_num_seqs=2, max_num_batched_tokens=8, prefix_caching=False)
    for _ in range(2):
        scheduler.add(make_sequence("a", [1, 2, 3, 4, 5], max_tokens=1))
        finish_step(scheduler)

    assert (0, 0) == (scheduler.num_cached_tokens, scheduler.blocks.num_cached)


def test_the_end_of_a_text_is_given_up_first() -> None:
    """Its beginning is what others share."""
    pool = BlockPool(3, 4)
    text: list[int] = []
    pool.grow(text, 12)
    for block, digest in zip(text, (b"1", b"2", b"3"), strict=True):
        pool.publish(block, digest)
    pool.free(text)
    other: list[int] = []

    pool.grow(other, 4)

    assert 2 == len(pool.share([b"1", b"2", b"3"]))


def test_the_least_recently_used_text_is_given_up_first() -> None:
    """Using a cached block again makes it young."""
    pool = BlockPool(2, 4)
    for digest in (b"old", b"new"):
        block_ids: list[int] = []
        pool.grow(block_ids, 4)
        pool.publish(block_ids[0], digest)
        pool.free(block_ids)
    again = pool.share([b"old"])
    pool.free(again)
    other: list[int] = []

    pool.grow(other, 4)

    assert [1, 0] == [len(pool.share([digest])) for digest in (b"old", b"new")]


class Traffic(RuleBasedStateMachine):
    """Random arrivals, aborts and acceptances; every record agrees after each, and everybody is served in the end.

    Prompts are cut from few beginnings, so that many share blocks; what a slot of the cache would hold is recorded, and
    a sequence never stands on a slot that was computed for other tokens.
    """

    @initialize(num_blocks=st.integers(10, 16), max_num_seqs=st.integers(1, 5))
    def start(self, num_blocks, max_num_seqs) -> None:
        self.scheduler = make_scheduler(num_blocks=num_blocks, max_num_seqs=max_num_seqs)
        self.sequences: list[Sequence] = []
        self.slots: dict[tuple[int, int], tuple] = {}

    @rule(
        beginning=st.integers(0, 2),
        same=st.integers(0, 24),
        prompt_len=st.integers(1, 30),
        max_tokens=st.integers(1, 10),
        draft=st.integers(0, 6),
        salt=st.sampled_from(["", "mine"]),
        priority=st.integers(-1, 1),
    )
    def arrive(self, beginning, same, prompt_len, max_tokens, draft, salt, priority) -> None:
        own = 10 + len(self.sequences)
        prompt = [beginning if index < same else own for index in range(prompt_len)]
        sequence = make_sequence(str(len(self.sequences)), prompt, max_tokens, draft, salt, priority)
        self.sequences.append(sequence)
        self.scheduler.add(sequence)

    @rule(num_accepted=st.integers(0, 6))
    def step(self, num_accepted) -> None:
        self.compute(num_accepted)

    def compute(self, num_accepted: int = 0) -> None:
        schedule = self.scheduler.schedule

        def recorded():
            rows = schedule()
            for row in rows:
                self.write(row.sequence, row.sequence.num_computed + row.num_tokens)
            return rows

        self.scheduler.schedule = recorded
        finish_step(self.scheduler, num_accepted)
        self.scheduler.schedule = schedule
        for sequence in self.scheduler.running:
            self.write(sequence, sequence.num_computed)

    def write(self, sequence: Sequence, stop: int) -> None:
        """What a forward pass leaves in the cache: KV that depends on all tokens up to each."""
        size = self.scheduler.blocks.block_size
        for position in range(self.known(sequence), stop):
            slot = (sequence.block_ids[position // size], position % size)
            self.slots[slot] = (sequence.cache_salt, *sequence.token_ids[: position + 1])

    def known(self, sequence: Sequence) -> int:
        """How many leading tokens stand in slots that were computed for them."""
        size = self.scheduler.blocks.block_size
        for position, _ in enumerate(sequence.token_ids):
            if position // size >= len(sequence.block_ids):
                return position
            slot = (sequence.block_ids[position // size], position % size)
            if self.slots.get(slot) != (sequence.cache_salt, *sequence.token_ids[: position + 1]):
                return position
        return len(sequence.token_ids)

    @precondition(lambda self: self.scheduler.has_work)
    @rule(data=st.data())
    def abort(self, data) -> None:
        alive = [sequence for sequence in self.sequences if sequence.status is not Status.FINISHED]
        self.scheduler.finish(data.draw(st.sampled_from(alive)))

    @invariant()
    def records_agree(self) -> None:
        if hasattr(self, "scheduler"):
            self.scheduler.check_integrity()
            for sequence in self.scheduler.running:
                assert self.known(sequence) >= sequence.num_computed, sequence

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for _ in range(3000):
            if not self.scheduler.has_work:
                break
            self.compute()
        assert not self.scheduler.has_work, "somebody starves"
        assert self.scheduler.blocks.num_used == 0


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=80, stateful_step_count=40)
