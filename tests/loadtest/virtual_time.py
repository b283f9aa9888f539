"""Real sockets in virtual time: the clock jumps to the next timer whenever nothing is left to read or write.

Minutes of load take seconds, and no other process on the machine changes a figure. What passes through a loopback
socket is there at once, so a client and a server on one loop never wait for each other while the clock stands still.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Instead of waiting, moves the clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(5)
        self.now += max(timeout, 0.0)
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _Selector) -> None:
        super().__init__(selector)
        self._virtual = selector

    def time(self) -> float:
        return self._virtual.now


def run_in_virtual_time(monkeypatch: pytest.MonkeyPatch, main: Coroutine[Any, Any, T]) -> T:
    """The load generator reads the same clock as the loop."""
    selector = _Selector()
    for module in ("client", "load"):
        monkeypatch.setattr(f"outrider.loadtest.{module}.clock", lambda: selector.now)
    with asyncio.Runner(loop_factory=lambda: _Loop(selector)) as runner:
        return runner.run(main)
