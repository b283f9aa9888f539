"""The pool of KV blocks: sole owner of who holds which block and of what is cached. Knows no tensors.

A block is held by one or more sequences, or by none. One that nobody holds is free, or it still has the KV of known
tokens: then it is cached until its place is needed, the least recently used first.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """Hands out block ids below `num_blocks`; a full block can be published under a digest and shared by it."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))
        self._holders = [0] * num_blocks
        self._digest_of: dict[int, bytes] = {}  # of published blocks, held or not
        self._block_of: dict[bytes, int] = {}
        self._unheld: OrderedDict[int, None] = OrderedDict()  # published and held by nobody; the next to go first

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds, cached ones too."""
        return len(self._free) + len(self._unheld)

    @property
    def num_used(self) -> int:
        """Blocks that are held."""
        return self.num_blocks - self.num_free

    @property
    def num_cached(self) -> int:
        """Blocks that can be shared, held or not."""
        return len(self._digest_of)

    def num_needed(self, num_tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-num_tokens // self.block_size)

    def grow(self, block_ids: list[int], num_tokens: int) -> bool:
        """Appends to `block_ids` until it holds `num_tokens`. False, and nothing taken, when too few are free."""
        missing = self.num_needed(num_tokens) - len(block_ids)
        if missing > self.num_free:
            return False
        for _ in range(missing):
            block = self._free.pop() if self._free else self._evict()
            self._holders[block] = 1
            block_ids.append(block)
        return True

    def trim(self, block_ids: list[int], num_tokens: int) -> None:
        """Takes back what `block_ids` holds beyond `num_tokens`."""
        num_kept = self.num_needed(num_tokens)
        self._release(block_ids[num_kept:])
        del block_ids[num_kept:]

    def free(self, block_ids: list[int]) -> None:
        """Takes all blocks back and empties the list."""
        self._release(block_ids)
        block_ids.clear()

    def share(self, digests: Iterable[bytes]) -> list[int]:
        """The blocks published under the longest run of leading digests, now held once more."""
        block_ids: list[int] = []
        for digest in digests:
            block = self._block_of.get(digest)
            if block is None:
                break
            self._holders[block] += 1
            self._unheld.pop(block, None)
            block_ids.append(block)
        return block_ids

    def publish(self, block: int, digest: bytes) -> None:
        """Lets others share a held block, whose slots are all written and will not be again.

        Where two sequences computed the same tokens at the same time, the first one's block stays the shared one.
        """
        if digest not in self._block_of and block not in self._digest_of:
            self._block_of[digest] = block
            self._digest_of[block] = digest

    def check_integrity(self, held: Sequence[list[int]]) -> None:
        """Asserts that each block is free, cached or held by as many as hold it, given all holders' lists."""
        holders = Counter(block for block_ids in held for block in block_ids)
        assert all(holders[block] == count for block, count in enumerate(self._holders)), f"holders differ: {self}"
        unheld = sorted([*self._free, *self._unheld])
        assert unheld == [block for block, count in enumerate(self._holders) if not count], f"blocks leaked: {self}"
        assert {block: digest for digest, block in self._block_of.items()} == self._digest_of, f"digests differ: {self}"
        assert self._unheld.keys() <= self._digest_of.keys(), f"unknown blocks are cached: {self}"
        assert not self._digest_of.keys() & set(self._free), f"free blocks are cached: {self}"

    def _release(self, block_ids: Sequence[int]) -> None:
        # The end of a text is the first to go: its beginning is what others share.
        for block in reversed(block_ids):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._digest_of:
                self._unheld[block] = None
            else:
                self._free.append(block)

    def _evict(self) -> int:
        block, _ = self._unheld.popitem(last=False)
        del self._block_of[self._digest_of.pop(block)]
        return block

    def __repr__(self) -> str:
        used = f"{self.num_used}/{self.num_blocks} used, {self.num_cached} cached"
        return f"<BlockPool {used}, {self.block_size} tokens each>"
