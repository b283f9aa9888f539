"""The one span of a request with `gen_ai.*`, and its phases.

Owns what they say and when an inference is an error. While the request runs only marks and plain values are taken down.
"""

import random
import time
from dataclasses import dataclass

from outrider.telemetry import names
from outrider.telemetry.attributes import Attributes, sendable, sendable_text
from outrider.telemetry.content import Content
from outrider.telemetry.figures import InferenceResult, Operation, RequestAttributes
from outrider.telemetry.phases import queue
from outrider.telemetry.spans import FinishedSpan, Phase, SpanEvent

SHORT_WAIT = 0.001  # seconds; a wait that is no longer is no phase


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """How spans are written: whose names, and whether with the texts."""

    profile: names.Profile = "v1.41"
    content_on_spans: bool = False


class InferenceTrace:
    """The `gen_ai.*` span of a request. `end` or `fail` closes it, and whatever comes after does nothing."""

    def __init__(self, operation: Operation | None = None) -> None:
        self._operation = operation  # None when off
        self._is_open = operation is not None
        self._started = self._ended = time.monotonic() if operation is not None else 0.0
        self._model: str | None = None
        self._stream = False
        self._request = RequestAttributes()
        self._phases: list[Phase] = []
        self._events: list[tuple[str, float, Attributes]] = []
        self._first_token: float | None = None
        self._waited: Attributes = {}
        self._result = InferenceResult()
        self.content: Content | None = None
        self.error_type: str | None = None

    def __repr__(self) -> str:
        return f"InferenceTrace({'open' if self._is_open else 'off or ended'})"

    @property
    def is_on(self) -> bool:
        """Whether there is such a span at all."""
        return self._operation is not None

    @property
    def was_preempted(self) -> bool:
        """Whether it had to give way."""
        return bool(self._result.preemptions)

    def describe(self, *, model: str, stream: bool, request: RequestAttributes) -> None:
        """Tells what was asked, once the body is read. `model` names the span: a known one, not the client's word."""
        self._model, self._stream, self._request = model, stream, request

    def phase(self, phase: Phase) -> None:
        """Adds a part that is over."""
        if self._is_open:
            self._phases.append(phase)

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Notes what happens now: an attempt at another engine, say."""
        if self._is_open:
            self._events.append((name, time.monotonic(), attributes or {}))

    def first_token(self) -> None:
        """Marks the first token, once; when streaming, its time since the span's start is the time to first chunk."""
        if self._is_open and self._first_token is None:
            self._first_token = time.monotonic()
            self._events.append((names.FIRST_TOKEN_EVENT, self._first_token, {}))

    def had_to_wait(self, seconds: float, num_ahead: int) -> None:
        """Tells how long the request waited in the gateway until now, and how many were before it when it came."""
        if not self._is_open:
            return
        self._waited = {names.GATEWAY_QUEUE_SECONDS: seconds, names.GATEWAY_QUEUE_POSITION: num_ahead}
        now = time.monotonic()
        if seconds > SHORT_WAIT:
            self.phase(queue(now - seconds, now, reason="gateway", depth=num_ahead))

    def say(self, content: Content) -> None:
        """Records the texts, where the operator wants them and the client's key allows it."""
        if self._is_open:
            self.content = content

    def end(self, result: InferenceResult) -> None:
        """Closes the span of an inference that came to its end."""
        self._close(result, None)

    def fail(self, error_type: str, result: InferenceResult | None = None) -> None:
        """Closes the span as an error; `result` tells what was generated until then. Every choice ends by "error"."""
        self._close(result or InferenceResult(), error_type)

    def _close(self, result: InferenceResult, error_type: str | None) -> None:
        if self._is_open:
            self._is_open = False
            self._result, self.error_type = result, error_type
            self._ended = time.monotonic()

    def finished_spans(
        self, parent_id: int, clock_offset: int, server: Attributes, settings: TraceSettings
    ) -> list[FinishedSpan]:
        """Its phases, then the span itself; once it has ended.

        Args:
            parent_id: The server span's.
            clock_offset: Nanoseconds from the monotonic clock to 1970's.
            server: What both spans say of the server.
            settings: How spans are written.
        """
        if self._operation is None:
            return []
        own_id = new_span_id()
        spans = [
            FinishedSpan(
                name=phase.name,
                kind="INTERNAL",
                span_id=new_span_id(),
                parent_id=own_id,
                start_ns=clock_offset + _nanoseconds(self._within(phase.start)),
                end_ns=clock_offset + _nanoseconds(self._within(phase.end)),
                attributes=sendable(phase.attributes),
                has_failed=phase.has_failed,
            )
            for phase in (*self._phases, *self._result.phases)
        ]
        name = self._operation if self._model is None else f"{self._operation} {sendable_text(self._model)}"
        attributes = sendable(in_profile(self._attributes() | server, settings.profile))
        if self.content is not None and settings.content_on_spans:
            attributes |= self.content.as_json(settings.profile)
        span = FinishedSpan(
            name=name,
            kind="INTERNAL",
            span_id=own_id,
            parent_id=parent_id,
            start_ns=clock_offset + _nanoseconds(self._started),
            end_ns=clock_offset + _nanoseconds(self._ended),
            attributes=attributes,
            events=tuple(
                SpanEvent(name, clock_offset + _nanoseconds(at), sendable(told))
                for name, at, told in self._all_events()
            ),
            has_failed=self.error_type is not None,
        )
        return [*spans, span]

    def _within(self, mark: float) -> float:
        """Another process's clock may be off: a phase lies inside its inference all the same."""
        return min(max(mark, self._started), self._ended)

    def _attributes(self) -> Attributes:
        attributes: Attributes = {
            names.GEN_AI_OPERATION_NAME: self._operation,
            names.GEN_AI_PROVIDER_NAME: names.PROVIDER,
            names.GEN_AI_REQUEST_MODEL: self._model,
            names.GEN_AI_REQUEST_STREAM: True if self._stream else None,
            **self._request.attributes(),
            **self._waited,
            **self._result.attributes(),
        }
        if self._stream and self._first_token is not None:
            attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = self._first_token - self._started
        if self.error_type is not None:
            attributes[names.ERROR_TYPE] = self.error_type
            reasons = [names.FINISHED_BY_ERROR] * self._request.choice_count
            attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = reasons
        return attributes

    def _all_events(self) -> list[tuple[str, float, Attributes]]:
        dropped = [(names.SPEC_DROPPED_EVENT, self._ended, told) for told in self._result.dropped_drafts()]
        return self._events + dropped


def in_profile(attributes: Attributes, profile: names.Profile) -> Attributes:
    """With the names, and the types, of the conventions that the operator chose."""
    top_k = attributes.get(names.GEN_AI_REQUEST_TOP_K)
    if profile == "v1.41":
        return {**attributes, names.GEN_AI_REQUEST_TOP_K: float(top_k)} if isinstance(top_k, int) else attributes
    old, new = names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS, names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS
    written = attributes.get(old)
    return {**attributes, new: written, old: written if profile == "both" else None}


def new_span_id() -> int:
    """Of 64 random bits, never 0."""
    return random.getrandbits(64) or 1


def _nanoseconds(mark: float) -> int:
    return int(mark * 1e9)
