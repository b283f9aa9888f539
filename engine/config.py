"""The engine's configuration: frozen, checked once. Derived sizes are computed where the model is known."""

import os
import re
from dataclasses import dataclass

from outrider.engine.protocol import OFF, PREDICTION
from outrider.speculative.limits import MAX_NODES

BLOCK_SIZE = 32

DEFAULT_SPECULATION = "auto"  # of requests that say nothing, on a server that says nothing

# Measured on two cores: at 1.5 million parameters one thread is 1.4 times as fast as two, at 11 million two are 1.2 to
# 1.7 times as fast as one.
SMALL_MODEL_PARAMETERS = 5_000_000


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything an engine is started with."""

    model: str  # a checkpoint folder, or a hub id
    revision: str | None = None  # branch, tag or commit of a hub id
    dtype: str = "auto"  # auto (the checkpoint's own), float32 or bfloat16
    kv_dtype: str = "auto"  # of keys and values in the cache: auto (the model's) or int8, on the CPU
    device: str = "auto"  # auto (a GPU where torch sees one), cpu, cuda or cuda:N
    max_model_len: int | None = None  # tokens, prompt and output; the model's own when None
    max_num_seqs: int = 64  # requests that share a step
    max_num_batched_tokens: int = 1024  # tokens of one step: the budget that long prompts are split by
    # Upper bounds; less is taken when max_num_seqs full-length requests need less.
    kv_memory_bytes: int | None = None  # when None, by memory_utilization
    memory_utilization: float = 0.8  # share of the memory that is free once the model is loaded
    num_threads: int | None = None  # of torch; default_num_threads when None
    prefix_caching: bool = True  # whether requests share the KV of what they begin with
    speculation: str = DEFAULT_SPECULATION  # of requests that say nothing: off, auto, or methods between commas
    speculation_allowed: bool = True  # whether requests may speculate
    speculation_max_tokens: int = 8  # the most drafted tokens of one request in one step
    # Speculators, each a folder or a hub id.
    draft: str | None = None  # a smaller model
    eagle: str | None = None  # an EAGLE head that was trained for the model
    medusa: str | None = None  # Medusa heads that were trained for the model
    suffix_sharing: bool = False  # whether `suffix` learns from answers for later requests of the same cache_salt

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError(f"dtype must be auto, float32 or bfloat16, not `{self.dtype}`")
        if self.kv_dtype not in ("auto", "int8"):
            raise ValueError(f"kv_dtype must be auto or int8, not `{self.kv_dtype}`")
        if re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device) is None:
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, not `{self.device}`")
        if not 0.0 < self.memory_utilization <= 1.0:
            raise ValueError(f"memory_utilization must be above 0 and at most 1, not {self.memory_utilization}")
        for name in ("max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least max_num_seqs "
                f"({self.max_num_seqs}): each running request needs one token of every step"
            )
        for name in ("max_model_len", "num_threads", "kv_memory_bytes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.speculation_max_tokens <= MAX_NODES:
            raise ValueError(
                f"speculation_max_tokens must lie between 0 and {MAX_NODES}, not {self.speculation_max_tokens}"
            )
        if PREDICTION in self.default_speculation:
            raise ValueError(
                f"speculation must not name `{PREDICTION}`: every request that brings one is drafted for from it"
            )

    @property
    def default_speculation(self) -> tuple[str, ...]:
        """The methods of requests that say nothing, or `off` or `auto` alone."""
        return tuple(name.strip() for name in self.speculation.split(",")) if self.speculation_allowed else (OFF,)

    @property
    def speculators(self) -> dict[str, str]:
        """Of the speculators that are to be loaded, where each method's lies; none where nobody may speculate."""
        named = {"draft": self.draft, "eagle": self.eagle, "medusa": self.medusa}
        return {method: path for method, path in named.items() if path is not None and self.speculation_allowed}


def default_num_threads(num_parameters: int) -> int:
    """The processors this process may use, and one for a small model, whose threads would wait longer than they work.

    Where other programs need the machine too, OMP_NUM_THREADS bounds it, as it does for torch.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if num_parameters < SMALL_MODEL_PARAMETERS:
        return 1
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
