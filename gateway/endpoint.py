"""What the generating endpoints share: from the body to the answer, streamed or whole.

An endpoint is its request type and the functions that shape its answers; all else is the same for each.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from outrider.gateway.admission import admit, request_attributes
from outrider.gateway.choices import Choices
from outrider.gateway.content import content
from outrider.gateway.deadline import HEADER as TIMEOUT_HEADER
from outrider.gateway.deadline import deadline_of, until
from outrider.gateway.errors import ApiError, draining, invalid, model_not_allowed, unknown_model
from outrider.gateway.generation import Piece, joined
from outrider.gateway.limits import Cost
from outrider.gateway.phases import admission
from outrider.gateway.requests import ChatRequest, CompletionRequest, parse_request
from outrider.gateway.responses import RequestMetrics, Usage
from outrider.gateway.state import GATEWAY, REQUEST_STATE, Gateway, RequestState
from outrider.telemetry.figures import Operation
from outrider.telemetry.names import CLIENT_DISCONNECTED, OTHER

EVENT_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # proxies must not collect events
}


@dataclass(frozen=True, slots=True)
class Head:
    """What every body of one answer begins with."""

    id: str
    created: int
    model: str
    chunk_usage: UnsetType | None  # null in each chunk of a stream that ends with its usage, as OpenAI has it
    with_origins: bool

    def origins(self, piece: Piece) -> list[str] | UnsetType:
        """Of each token of a piece where it comes from, for clients that asked."""
        return list(piece.origins) if self.with_origins else UNSET


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One generating endpoint."""

    operation: Operation
    request_type: type[ChatRequest] | type[CompletionRequest]
    id_prefix: str
    whole: Callable[[Head, list[Piece], Usage, RequestMetrics | UnsetType], msgspec.Struct]  # a piece for each answer
    opening: Callable[[Head, int], msgspec.Struct | None]  # sent before the first piece of each answer
    piece: Callable[[Head, Piece], msgspec.Struct]  # the last of an answer has no text and a finish reason
    closing: Callable[[Head, Usage | UnsetType | None, RequestMetrics | UnsetType], msgspec.Struct]


async def serve(request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
    """Answers one request to a generating endpoint.

    Raises:
        ApiError: it was refused, or failed before its first token.
    """
    gateway, state = request.app[GATEWAY], request[REQUEST_STATE]
    state.inference = state.trace.start_inference(endpoint.operation)
    with contextlib.ExitStack() as stack:
        with admission(state.inference):
            check_gate(gateway)
            parsed = parse_request(await read_body(request, gateway.config.body_seconds), endpoint.request_type)
            state.deadline = deadline_of(parsed.timeout, request.headers.get(TIMEOUT_HEADER), state.arrived)
            if not state.key.may_use(parsed.model):
                raise model_not_allowed(parsed.model, state.key.models or ())
            if parsed.model != gateway.model_name:
                raise unknown_model(parsed.model)
            state.inference.describe(
                model=gateway.model_name, stream=bool(parsed.stream), request=request_attributes(parsed)
            )
            # Not the x-request-id, which a client may send twice.
            response_id = f"{endpoint.id_prefix}-{secrets.token_hex(12)}"
            lease = stack.enter_context(gateway.access.lease(state.key, parsed.model))

            async def reserve(num_prompt_tokens: int, max_tokens: int, num_answers: int) -> None:
                output_tokens = num_answers * min(max_tokens, gateway.config.output_estimate)
                try:
                    state.headers.update(await lease.take(Cost(num_prompt_tokens, output_tokens), parsed.model))
                except ApiError:
                    gateway.metrics.count_rate_limited()
                    raise

            admitted = await admit(
                gateway,
                parsed,
                response_id,
                state.key,
                reserve,
                inference=state.inference,
                trace_id=state.trace.trace_id or "",
            )
        submit = admitted.submits[0]
        async with gateway.queue.turn(
            state.key.tenant_name,
            submit.priority,
            len(submit.prompt_ids),
            len(admitted.submits),
            None if state.deadline is None else state.deadline.at,
        ) as turn:
            state.inference.had_to_wait(turn.seconds, turn.num_ahead)
            choices = Choices(gateway, admitted, state.arrived, state.inference)
            turn.ticket.count_output_tokens = lambda: choices.num_output_tokens
            try:
                return await _run(request, _Answer(gateway, state, endpoint, parsed, choices))
            finally:
                if choices.num_output_tokens or state.error_type in {None, CLIENT_DISCONNECTED}:
                    lease.used = Cost(len(submit.prompt_ids), choices.num_output_tokens, lease.num_requests)


async def _run(request: web.Request, answer: "_Answer") -> web.StreamResponse:
    """The answer, however it ends, with its outcome recorded."""
    error_type: str | None = None
    try:
        return await answer.send(request)
    except ApiError as error:
        error_type = error.error_type
        raise
    except (asyncio.CancelledError, ConnectionResetError):
        error_type = CLIENT_DISCONNECTED
        raise
    except BaseException:
        error_type = OTHER
        raise
    finally:
        answer.record(error_type)


class _Answer:
    """Shapes and sends the answer of one request."""

    def __init__(
        self,
        gateway: Gateway,
        state: RequestState,
        endpoint: Endpoint,
        request: ChatRequest | CompletionRequest,
        choices: Choices,
    ) -> None:
        self._gateway = gateway
        self._state = state
        self._endpoint = endpoint
        self._choices = choices
        self._is_stream = bool(request.stream)
        self._with_logprobs = request.logprobs is not None and request.logprobs is not False
        options = request.stream_options
        self._with_usage = options is not None and options.include_usage
        self._with_metrics = bool(request.return_metrics)
        self._request = request
        # What was said, by answer, where the operator wants it recorded.
        captures = gateway.tracing.captures_content and state.key.trace_content
        self._said: list[list[str]] | None = [[] for _ in choices.generations] if captures else None
        self._head = Head(
            id=choices.id,
            created=int(time.time()),
            model=gateway.model_name,
            chunk_usage=None if self._with_usage else UNSET,
            with_origins=bool(request.return_token_origins),
        )

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Streamed or whole, as the request says."""
        return await (self._stream(request) if self._is_stream else self._whole())

    async def _whole(self) -> web.Response:
        """One JSON body at the end."""
        choices = self._choices
        gathered: list[list[Piece]] = [[] for _ in choices.generations]
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                self._state.inference.first_token()
                gathered[piece.index].append(self._shown(piece))
        answers = [
            replace(joined([one.echo, *gathered[one.index]]), index=place) for place, one in enumerate(choices.best())
        ]
        body = self._endpoint.whole(self._head, answers, choices.usage, self._metrics())
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events. An error before the first token is raised, so that it gets its own status."""
        async with aclosing(self._pieces()) as pieces:
            first = await anext(pieces)
            self._state.inference.first_token()
            response = web.StreamResponse(headers=EVENT_STREAM_HEADERS)
            self._state.has_begun = True
            await response.prepare(request)
            events = _EventWriter(request, response, self._gateway.config.stalled_reader_seconds)
            try:
                await self._send_all(events, first, pieces)
            except ApiError as error:
                self._state.error_type = error.error_type
                events.add(error.json())
            await events.finish()
            return response

    def _pieces(self) -> AsyncGenerator[Piece]:
        pieces = self._choices.pieces()
        return pieces if self._state.deadline is None else until(pieces, self._state.deadline)

    def record(self, error_type: str | None) -> None:
        """Closes the inference span and counts the outcome."""
        choices, state = self._choices, self._state
        error_type = state.error_type = error_type or state.error_type
        result = choices.result()
        if self._said is not None:
            texts = ["".join(said) for said in self._said]
            state.inference.say(content(self._request, texts, result.finish_reasons))
        if error_type is None:
            state.inference.end(result)
        else:
            state.inference.fail(error_type, result)
        first_token = choices.first_token
        self._gateway.metrics.observe_inference(
            operation=self._endpoint.operation,
            model=self._gateway.model_name,
            duration_seconds=(choices.finished or time.monotonic()) - state.arrived,
            time_to_first_token_seconds=None if first_token is None else first_token - state.arrived,
            output_tokens=choices.num_output_tokens,
            error_type=error_type,
            trace_id=state.trace.trace_id if state.trace.is_kept else None,
            result=result,
        )

    async def _send_all(self, events: "_EventWriter", first: Piece, rest: AsyncIterator[Piece]) -> None:
        """Each piece that has something to show; text and tokens that show none yet come with the next."""
        endpoint, head = self._endpoint, self._head
        held: dict[int, Piece] = {}  # by answer; an answer that is not in it has not begun
        async for piece in _chained(first, rest):
            if piece.index not in held:
                opening = endpoint.opening(head, piece.index)
                if opening is not None:
                    await events.send(opening)
                if self._choices.echo:
                    await events.send(endpoint.piece(head, self._choices.generations[piece.index].echo))
                held[piece.index] = Piece(piece.index)
            whole = joined([held[piece.index], self._shown(piece)])
            if not whole.is_silent:
                await events.send(endpoint.piece(head, whole), more_follows=self._more_follows(piece))
                whole = Piece(piece.index)
            held[piece.index] = whole
        if self._with_usage or self._with_metrics:
            usage = self._choices.usage if self._with_usage else UNSET
            await events.send(endpoint.closing(head, usage, self._metrics()))

    def _more_follows(self, piece: Piece) -> bool:
        """Whether an event comes at once: an answer's last one, or what ends the stream."""
        if piece.finish_reason is None:
            return self._choices.generations[piece.index].has_ended
        return all(one.has_ended for one in self._choices.generations)

    def _shown(self, piece: Piece) -> Piece:
        """Without log-probabilities where they were needed only to choose the best answers."""
        if self._said is not None:
            self._said[piece.index].append(piece.text)
        if not piece.logprobs:
            return piece
        if not self._with_logprobs:
            return replace(piece, logprobs=(), offsets=())
        return replace(piece, offsets=tuple(len(self._choices.echo) + offset for offset in piece.offsets))

    def _metrics(self) -> RequestMetrics | UnsetType:
        return self._choices.metrics if self._with_metrics else UNSET


async def _chained(first: Piece, rest: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    yield first
    async for piece in rest:
        yield piece


class _EventWriter:
    """Writes server-sent events; drops a client that stopped reading."""

    def __init__(self, request: web.Request, response: web.StreamResponse, stall_seconds: float) -> None:
        self._request = request
        self._response = response
        self._stall_seconds = stall_seconds
        self._held = b""  # events that are not sent yet

    async def send(self, body: msgspec.Struct, *, more_follows: bool = False) -> None:
        """One event with a JSON body; it may wait for those that follow at once."""
        self.add(msgspec.json.encode(body))
        if not more_follows:
            await self._write(self._response.write)

    async def finish(self) -> None:
        """The last event, `[DONE]`, and the end of the answer."""
        self.add(b"[DONE]")
        await self._write(self._response.write_eof)

    def add(self, data: bytes) -> None:
        """One event, to be sent with those that follow."""
        self._held += b"data: " + data + b"\n\n"

    async def _write(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        data, self._held = self._held, b""
        try:
            async with asyncio.timeout(self._stall_seconds):
                await write(data)
        except TimeoutError as error:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the client stopped reading") from error


def check_gate(gateway: Gateway) -> None:
    """Draining, before anything is read."""
    if gateway.is_draining:
        raise draining("The server is shutting down: send the request again")


async def read_body(request: web.Request, seconds: float) -> bytes:
    """The whole body; ApiError when it does not come."""
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except web.RequestPayloadError as error:
        raise invalid(f"The body cannot be read: {error}") from error
    except TimeoutError as error:
        raise ApiError(408, f"The body did not arrive within {seconds:g} s", code="request_timeout") from error
