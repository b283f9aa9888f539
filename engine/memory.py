"""How long a context is served, how much memory its KV cache takes, and how much the process has."""

import resource
import sys
from pathlib import Path

from outrider.engine.config import BLOCK_SIZE, EngineConfig
from outrider.engine.errors import LoadError


def max_model_len(config: EngineConfig, own: int) -> int:
    """The context to serve, in tokens; `own` is the model's.

    Raises:
        LoadError: more than the model's own is asked for.
    """
    if own < 2:
        raise LoadError(f"the model's context is {own} tokens: check max_position_embeddings in its config.json")
    if config.max_model_len is None:
        return own
    if config.max_model_len > own:
        raise LoadError(f"--max-model-len {config.max_model_len} is more than the model's own context of {own} tokens")
    return config.max_model_len


def num_kv_blocks(config: EngineConfig, context: int, block_bytes: int) -> int:
    """As many as the memory holds, but no more than full-length requests in every place could use.

    Raises:
        LoadError: not even one request of full length would fit.
    """
    blocks_per_request = -(-context // BLOCK_SIZE)
    num_blocks = min(config.kv_memory_bytes // block_bytes, config.max_num_seqs * blocks_per_request)
    if num_blocks < blocks_per_request:
        raise LoadError(
            f"--kv-memory {config.kv_memory_bytes} holds {num_blocks * BLOCK_SIZE} tokens, fewer than one request of "
            f"{context}: raise it to {blocks_per_request * block_bytes} bytes or lower --max-model-len"
        )
    return num_blocks


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not tell, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_resident_bytes()
    return pages * resource.getpagesize()


def peak_resident_bytes() -> int:
    """The most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
