"""Names for full KV blocks: equal names mean equal tokens, all the way from the start.

Each block's digest covers its own tokens and the digest of the block before, so a block is found by everything that
its KV depends on. The first one also covers the request's cache salt: requests with different salts share nothing.
"""

import hashlib
from array import array
from collections.abc import Sequence


def extend_digests(
    digests: list[bytes], token_ids: Sequence[int], num_blocks: int, block_size: int, salt: str = ""
) -> None:
    """Appends the digests of further full blocks, up to `num_blocks` of them.

    Args:
        digests: of the blocks before, in order; grows in place
        token_ids: from the start, at least num_blocks * block_size of them
        num_blocks: how many digests there shall be
        block_size: tokens of a block
        salt: shared by requests that may share blocks
    """
    for index in range(len(digests), num_blocks):
        parent = digests[-1] if digests else hashlib.blake2b(salt.encode(), digest_size=16).digest()
        tokens = array("I", token_ids[index * block_size : (index + 1) * block_size])
        digests.append(hashlib.blake2b(parent + tokens.tobytes(), digest_size=16).digest())
