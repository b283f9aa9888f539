"""Runs a model: scheduling, paged KV, execution, sampling. Knows nothing of HTTP requests or keys.

`LLM` and `SamplingParams` are the engine for Python programs. They are imported when first asked for: other processes
use single modules of this package, without torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.engine.llm import LLM, SamplingParams

__all__ = ["LLM", "SamplingParams"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from outrider.engine import llm  # noqa: PLC0415 - torch is loaded only where it is used

        return getattr(llm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
