"""Counter-based noise: Philox4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3").

The noise of a token is a function of (seed, position, token id) alone, so a draw can be repeated anywhere, in any
order and in any batch. One call of the generator serves four neighbouring token ids.
"""

import numpy as np
import numpy.typing as npt

UInt32s = npt.NDArray[np.uint32]

_MULTIPLIER = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], seed: int) -> UInt32s:
    """Ten rounds over four counter words of any shape, keyed by a 64-bit seed (low word first).

    Returns:
        uint32 words of shape (*counter_shape, 4).
    """
    c0, c1, c2, c3 = (word.astype(np.uint64) for word in np.broadcast_arrays(*counter))
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIER[0], c2 * _MULTIPLIER[1]
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def gumbel(seed: int, position: int, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Gumbel(0, 1) noise of the given tokens at one position of a request with this seed, float32.

    With k the token's 32 bits and w = (k + 0.5) / 2**32, the noise is -log(-log1p(-w)). In this form float32 never
    rounds its argument to 1; the result lies between -3.14 and 22.88.

    Args:
        seed: 64-bit
        position: of the token to be drawn
        token_ids: in rising order
    """
    groups = token_ids >> 2
    is_first = np.r_[True, groups[1:] != groups[:-1]][: len(groups)]
    words = philox4x32((groups[is_first], np.uint64(position), np.uint64(0), np.uint64(0)), seed)  # (num_groups, 4)
    bits = words[np.cumsum(is_first) - 1, token_ids & 3]
    w = (bits.astype(np.float64) + 0.5) / 2**32
    noise: npt.NDArray[np.float32] = (-np.log(-np.log1p(-w))).astype(np.float32)
    return noise
