"""How long a context is served, how much memory its KV cache takes, and how much the process has."""

import os
import resource
import sys
from pathlib import Path

import torch

from outrider.engine.config import BLOCK_SIZE, EngineConfig
from outrider.engine.errors import LoadError

CPU = torch.device("cpu")


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


def num_kv_blocks(config: EngineConfig, context: int, block_bytes: int, available: int) -> int:
    """As many as the memory holds, but no more than full-length requests in every place could use.

    Args:
        config: says how much memory, in bytes or as a share of what is available
        context: tokens of a full-length request
        block_bytes: of one block, keys and values of all layers
        available: bytes

    Raises:
        LoadError: not even one request of full length would fit.
    """
    blocks_per_request = -(-context // BLOCK_SIZE)
    if config.kv_memory_bytes is not None:
        budget, option = config.kv_memory_bytes, f"--kv-memory {config.kv_memory_bytes}"
    else:
        budget = int(config.memory_utilization * available)
        option = f"--memory-utilization {config.memory_utilization:g} of {available / 2**30:.1f} GiB"
    num_blocks = min(budget // block_bytes, config.max_num_seqs * blocks_per_request)
    if num_blocks < blocks_per_request:
        raise LoadError(
            f"{option} holds {num_blocks * BLOCK_SIZE} tokens, fewer than one request of {context}: "
            f"give the cache {blocks_per_request * block_bytes} bytes with --kv-memory, or lower --max-model-len"
        )
    return num_blocks


def available_bytes(device: torch.device = CPU) -> int:
    """Memory that can still be taken: of a GPU, or without swapping and within the process's control group."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what loading has left behind
        return torch.cuda.mem_get_info(device)[0]
    available = _meminfo("MemAvailable")
    if available is None:
        pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else 2**18
        available = pages * resource.getpagesize()
    return min([available, *_group_room()])


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _group_room(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What control groups of version 2 and 1 leave, files that can be dropped not counted; nothing without a limit."""
    rooms = []
    for folder, limit, used, droppable in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            room = int((folder / limit).read_text()) - int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # absent, or "max"
            continue
        rooms.append(max(0, room + int(stat.get(droppable, 0))))
    return rooms


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
