"""The pool of KV blocks: sole owner of which block is free and which sequence holds which. Knows no tensors."""


class BlockPool:
    """Hands out block ids below `num_blocks`. A block has one holder at a time."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Blocks that are held."""
        return self.num_blocks - len(self._free)

    def num_needed(self, num_tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-num_tokens // self.block_size)

    def grow(self, block_ids: list[int], num_tokens: int) -> bool:
        """Appends to `block_ids` until it holds `num_tokens`. False, and nothing taken, when too few are free."""
        missing = self.num_needed(num_tokens) - len(block_ids)
        if missing > len(self._free):
            return False
        block_ids.extend(self._free.pop() for _ in range(missing))
        return True

    def trim(self, block_ids: list[int], num_tokens: int) -> None:
        """Takes back what `block_ids` holds beyond `num_tokens`."""
        num_kept = self.num_needed(num_tokens)
        self._free.extend(reversed(block_ids[num_kept:]))
        del block_ids[num_kept:]

    def free(self, block_ids: list[int]) -> None:
        """Takes all blocks back and empties the list."""
        self._free.extend(reversed(block_ids))
        block_ids.clear()

    def check_integrity(self, held: list[list[int]]) -> None:
        """Asserts that each block is either free or held exactly once, given all holders' lists."""
        every = sorted(self._free + [block for block_ids in held for block in block_ids])
        assert every == list(range(self.num_blocks)), f"blocks leaked or shared: {self}"

    def __repr__(self) -> str:
        return f"<BlockPool {self.num_used}/{self.num_blocks} used, {self.block_size} tokens each>"
