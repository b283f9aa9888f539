"""Runs an engine's core on a thread of its own. That thread alone touches the core and torch.

Commands come in through a queue; results go out, once per step, through a callback that runs on the step thread.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from outrider.engine.errors import MissingGrammarError, RequestError
from outrider.engine.protocol import (
    Abort,
    EngineStats,
    FinishReason,
    Hello,
    LoadGrammar,
    StepOutputs,
    Submit,
    TokenDelta,
)
from outrider.structured.errors import StructuredError

logger = logging.getLogger("outrider.engine")


class Core(Protocol):
    """What is run: `EngineCore`, or `NullCore` in its place."""

    @property
    def has_work(self) -> bool:
        """Whether `step` would compute anything."""

    def hello(self) -> Hello:
        """What a gateway must know of this engine."""

    def load_grammar(self, message: LoadGrammar) -> None:
        """Takes in a compiled grammar; from any thread."""

    def add(self, submit: Submit) -> None:
        """Queues a request; RequestError if it can never be served."""

    def abort(self, request_id: str) -> TokenDelta | None:
        """Ends a request; None for an unknown one."""

    def abort_all(self) -> list[TokenDelta]:
        """Ends every request and returns their last deltas."""

    def step(self) -> list[TokenDelta]:
        """Computes one step and returns what it gave each request."""

    def stats(self) -> EngineStats:
        """The state after the last step."""

    def check_integrity(self) -> None:
        """Asserts, when there is no work, that nothing was lost."""


class EngineHost:
    """The step loop. Owns the thread; `stop` ends it after the step under way.

    Both callbacks run on the step thread: `publish` once per step, `on_end` when the loop has ended for any reason.
    """

    def __init__(self, core: Core, publish: Callable[[StepOutputs], None], on_end: Callable[[], None]) -> None:
        self._core = core
        self._publish = publish
        self._on_end = on_end
        self._inbox: queue.SimpleQueue[Submit | Abort | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outrider-step", daemon=True)

    def start(self) -> None:
        """Starts the loop."""
        self._thread.start()

    def send(self, command: Submit | Abort) -> None:
        """Hands a command over; from any thread, at any time."""
        self._inbox.put(command)

    def stop(self) -> None:
        """Ends the loop and waits for it; requests that still run are dropped."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop()
        except Exception:  # the end of the thread: an engine that cannot step must not look alive
            logger.critical("the engine's step loop broke", exc_info=True)
        finally:
            self._on_end()

    def _loop(self) -> None:
        while True:
            deltas: list[TokenDelta] = []
            for command in self._take():
                if command is None:
                    return
                delta = self._obey(command)
                if delta is not None:
                    deltas.append(delta)
            if self._core.has_work:
                deltas += self._step()
            else:
                self._core.check_integrity()
            self._publish(StepOutputs(deltas, self._core.stats()))

    def _take(self) -> list[Submit | Abort | None]:
        """All commands that wait; when there is nothing to compute, waits for one."""
        commands = [] if self._core.has_work else [self._inbox.get()]
        while True:
            try:
                commands.append(self._inbox.get_nowait())
            except queue.Empty:
                return commands

    def _obey(self, command: Submit | Abort) -> TokenDelta | None:
        """Carries a command out; the delta that ends its request, if it does."""
        match command:
            case Submit():
                try:
                    self._core.add(command)
                except (RequestError, StructuredError) as error:
                    return TokenDelta(
                        command.request_id,
                        [],
                        finish_reason=FinishReason.ERROR,
                        error=str(error),
                        needs_grammar=isinstance(error, MissingGrammarError),
                    )
                except Exception:  # the boundary: a request of the wrong types ends itself and not the engine
                    logger.exception("request %s cannot be taken in", command.request_id)
                    problem = "the engine does not understand the request"
                    return TokenDelta(command.request_id, [], finish_reason=FinishReason.ERROR, error=problem)
            case Abort():
                return self._core.abort(command.request_id)
        return None

    def _step(self) -> list[TokenDelta]:
        try:
            return self._core.step()
        except Exception:  # the boundary: whatever a step raises ends its requests and not the engine
            logger.exception("a step failed; its requests end with an error")
            problem = "the engine failed in the middle of the request"
            return [
                msgspec.structs.replace(delta, finish_reason=FinishReason.ERROR, error=problem, is_engine_fault=True)
                for delta in self._core.abort_all()
            ]
