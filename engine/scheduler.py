"""Decides what each step computes. Plain Python over plain data: no torch, no clock, no I/O."""

from bisect import insort
from dataclasses import dataclass
from operator import attrgetter

from outrider.engine.blocks import BlockPool
from outrider.engine.prefix import extend_digests
from outrider.engine.sequence import Sequence, Status
from outrider.speculative.tree import TokenTree

NO_DRAFT = TokenTree()

# Tokens of one request in a step whose logits are all needed, each as wide as the vocabulary.
MAX_PROMPT_LOGITS = 256


@dataclass(slots=True)
class StepRow:
    """One sequence's share of a step: its tokens from `num_computed` on, then what a proposer drafts.

    The scheduler fills all but `draft`, for which it has reserved blocks up to `max_draft_tokens`.
    """

    sequence: Sequence
    num_tokens: int
    max_draft_tokens: int = 0
    draft: TokenTree = NO_DRAFT

    @property
    def reaches_end(self) -> bool:
        """Whether the step computes the sequence's newest token, so that the next one can be drawn."""
        return self.sequence.num_computed + self.num_tokens == len(self.sequence.token_ids)

    @property
    def prompt_places(self) -> range:
        """The positions whose logits tell of the prompt token behind them, where that is asked for and not known."""
        sequence = self.sequence
        if not sequence.needs_prompt_logits:
            return range(0)
        stop = min(sequence.num_computed + self.num_tokens, sequence.num_prompt_tokens - 1)
        return range(max(sequence.num_computed, len(sequence.prompt_logprobs)), stop)


_rank = attrgetter("rank")


class Scheduler:
    """Continuous batching under one token budget: running sequences first, then waiting ones by priority and arrival.

    When blocks run out, the running sequence of the last rank is preempted, the youngest where priorities are equal:
    its blocks are freed and it is computed anew later. A newcomer never preempts.
    """

    def __init__(
        self, blocks: BlockPool, *, max_num_seqs: int, max_num_batched_tokens: int, prefix_caching: bool = True
    ) -> None:
        self.blocks = blocks
        self.waiting: list[Sequence] = []  # both by rank
        self.running: list[Sequence] = []
        self._num_arrived = 0
        self.num_preemptions = 0
        self.num_cached_tokens = 0  # of prompts, shared with earlier sequences
        self._prefix_caching = prefix_caching
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence that fits the model and the cache."""
        sequence.order = self._num_arrived
        self._num_arrived += 1
        insort(self.waiting, sequence, key=_rank)

    def finish(self, sequence: Sequence) -> None:
        """Takes a sequence out, running or waiting, and frees its blocks at once."""
        if sequence.status is Status.RUNNING:
            self.running.remove(sequence)
        elif sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
        self.blocks.free(sequence.block_ids)
        sequence.status = Status.FINISHED

    def schedule(self) -> list[StepRow]:
        """The next step's rows, with blocks reserved for all they will write."""
        rows: list[StepRow] = []
        num_preemptions = self.num_preemptions
        # Each running sequence is sure of one token; what is left goes to prompts and drafts, oldest first.
        spare = self._max_num_batched_tokens - len(self.running)
        for sequence in self.running:  # what was reserved for drafts that were not accepted
            self.blocks.trim(sequence.block_ids, len(sequence.token_ids))
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            num_tokens = min(self._num_missing(sequence), 1 + spare)
            if not self._reserve(sequence, sequence.num_computed + num_tokens):
                break  # the sequence itself was the last and is waiting again
            rows.append(StepRow(sequence, num_tokens))
            spare -= num_tokens - 1
            index += 1
        if self.num_preemptions == num_preemptions:  # else a newcomer would take what was just freed
            spare = self._admit(rows, spare)
        for row in rows:  # last, so that nobody gives way to a guess
            if row.reaches_end:
                row.max_draft_tokens = self._reserve_draft(row.sequence, spare)
                spare -= row.max_draft_tokens
        return rows

    def check_integrity(self) -> None:
        """Asserts that no block is lost and that every sequence's records agree."""
        self.blocks.check_integrity([sequence.block_ids for sequence in (*self.running, *self.waiting)])
        for sequence in self.running:
            assert sequence.status is Status.RUNNING, sequence
            assert sequence.num_computed < len(sequence.token_ids), sequence
            assert self.blocks.num_needed(sequence.num_computed) <= len(sequence.block_ids), sequence
        for sequence in self.waiting:
            assert sequence.status is Status.WAITING, sequence
            assert not sequence.block_ids, sequence
        for line in (self.running, self.waiting):
            assert line == sorted(line, key=_rank), f"out of order: {line}"

    def _admit(self, rows: list[StepRow], spare: int) -> int:
        """Starts waiting sequences, in order, while there are tokens, places and blocks; returns the tokens left.

        One that begins as a running prompt does waits until that is computed, rather than compute the same beside it;
        those of a later rank wait with it.
        """
        coming = self._coming_blocks()
        while self.waiting and len(self.running) < self._max_num_seqs and spare > 0:
            sequence = self.waiting[0]
            self._share_prefix(sequence)
            if coming and self._next_block(sequence) in coming:
                self.blocks.free(sequence.block_ids)
                break
            missing = self.blocks.num_needed(len(sequence.token_ids) + 1) - len(sequence.block_ids)
            if missing > self.blocks.num_free:
                self.blocks.free(sequence.block_ids)
                break
            sequence.num_computed = len(sequence.block_ids) * self.blocks.block_size
            if sequence.first_scheduled is None:
                sequence.num_cached_tokens = min(sequence.num_computed, sequence.num_prompt_tokens)
                self.num_cached_tokens += sequence.num_cached_tokens
            num_tokens = min(self._num_missing(sequence), spare)
            self.blocks.grow(sequence.block_ids, sequence.num_computed + num_tokens)
            self.waiting.pop(0)
            insort(self.running, sequence, key=_rank)
            sequence.status = Status.RUNNING
            rows.append(StepRow(sequence, num_tokens))
            spare -= num_tokens
            if self._prefix_caching:
                coming.update(sequence.digests[sequence.num_published :])
        return spare

    def _num_missing(self, sequence: Sequence) -> int:
        """How many tokens of it a step may compute."""
        num_missing = len(sequence.token_ids) - sequence.num_computed
        return min(num_missing, MAX_PROMPT_LOGITS) if sequence.needs_prompt_logits else num_missing

    def _coming_blocks(self) -> set[bytes]:
        """The digests of full blocks that running prompts are about to compute."""
        if not self._prefix_caching:
            return set()
        return {
            digest
            for sequence in self.running
            if sequence.num_computed < sequence.num_prompt_tokens
            for digest in sequence.digests[sequence.num_published :]
        }

    def _next_block(self, sequence: Sequence) -> bytes | None:
        """The digest of the first full block that a sequence would have to compute itself."""
        return sequence.digests[len(sequence.block_ids)] if len(sequence.block_ids) < len(sequence.digests) else None

    def publish(self, sequence: Sequence) -> None:
        """Lets later sequences share the blocks that a step has filled with tokens that stay."""
        if not self._prefix_caching or sequence.status is not Status.RUNNING:
            return
        size = self.blocks.block_size
        num_full = sequence.num_computed // size
        extend_digests(sequence.digests, sequence.token_ids, num_full, size, sequence.cache_salt)
        for index in range(sequence.num_published, num_full):
            self.blocks.publish(sequence.block_ids[index], sequence.digests[index])
        sequence.num_published = max(sequence.num_published, num_full)
        sequence.num_published_tokens = min(sequence.num_published * size, sequence.num_prompt_tokens)

    def _share_prefix(self, sequence: Sequence) -> None:
        """Begins with blocks that others have computed; one token at least stays to be computed.

        Whose logits are needed must be computed, whether its keys and values are there or not.
        """
        if self._prefix_caching and not sequence.needs_prompt_logits:
            size = self.blocks.block_size
            num_full = (len(sequence.token_ids) - 1) // size
            extend_digests(sequence.digests, sequence.token_ids, num_full, size, sequence.cache_salt)
            sequence.block_ids = self.blocks.share(sequence.digests[:num_full])
            sequence.num_published = len(sequence.block_ids)

    def _reserve(self, sequence: Sequence, num_tokens: int) -> bool:
        """Grows a running sequence, preempting younger ones; False when it had to give way itself."""
        while not self.blocks.grow(sequence.block_ids, num_tokens):
            last = self.running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        return True

    def _reserve_draft(self, sequence: Sequence, spare: int) -> int:
        """How many tokens may be drafted, in blocks that are free."""
        length = len(sequence.token_ids)
        left = sequence.params.max_tokens - sequence.num_output_tokens - 1  # the last token is never a draft
        wanted = min(sequence.speculation.max_tokens, left, spare)
        in_blocks = len(sequence.block_ids) * self.blocks.block_size - length
        if wanted > in_blocks and not self.blocks.grow(sequence.block_ids, length + wanted):
            wanted = in_blocks
        return max(0, wanted)

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.blocks.free(sequence.block_ids)
        sequence.status = Status.WAITING
        sequence.num_computed = sequence.num_published = 0
        sequence.num_preemptions += 1
        self.num_preemptions += 1
        insort(self.waiting, sequence, key=_rank)

    def __repr__(self) -> str:
        return f"<Scheduler {len(self.running)} running, {len(self.waiting)} waiting, {self.blocks}>"
