"""The engine in a Python program: `LLM(model).generate([...])`, with the results that a server of the model gives."""

import asyncio
import contextlib
import queue
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.progress import Progress

from outrider.engine import protocol
from outrider.engine.answer_text import AnswerText
from outrider.engine.config import EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.errors import EngineError, RequestError
from outrider.engine.host import EngineHost
from outrider.engine.protocol import FinishReason, StepOutputs, Submit, TokenDelta, TokenLogprobs
from outrider.engine.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How an answer is drawn. Names and meanings are those of the HTTP API; None is the checkpoint's own default."""

    max_tokens: int | None = None  # what the context has room for
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: Sequence[int] = ()
    bad_words: str | Sequence[str] = ()
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    max_time: float | None = None  # seconds; then the answer ends as it is
    ignore_eos: bool = False
    seed: int | None = None  # random
    n: int = 1
    logprobs: int | None = None  # how many of the likeliest tokens to report at each place
    prompt_logprobs: int | None = None  # the same of the prompt
    speculation: str | Sequence[str] = ()  # proposers that may draft; none: the default of the engine
    return_token_origins: bool = False  # whether answers tell where each of their tokens comes from
    prediction: str = ""  # the text that most of the answer will repeat, for the proposer of this name


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. Where the engine failed it, the finish reason is `error` and `error` says why."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprobs, ...] = ()
    error: str | None = None
    token_origins: tuple[str, ...] = ()  # where asked for: of each token a proposer's name, `bonus` or `target`


@dataclass(frozen=True, slots=True)
class Output:
    """All answers to one prompt."""

    prompt_token_ids: tuple[int, ...]
    answers: tuple[Answer, ...]
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()  # of its second token and all behind it, where asked for


@dataclass(slots=True)
class _Growing:
    """An answer that is not finished."""

    submit: Submit
    text: AnswerText
    pieces: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    error: str | None = None

    def add(self, delta: TokenDelta) -> str:
        """Takes a delta in and returns the text that it adds."""
        num_before = self.text.num_tokens
        text, _ = self.text.add(delta)
        num_added = self.text.num_tokens - num_before
        self.pieces.append(text)
        self.token_ids += delta.token_ids[:num_added]
        self.logprobs += delta.logprobs[:num_added]
        self.origins += delta.origins[:num_added]
        self.prompt_logprobs += delta.prompt_logprobs
        self.error = delta.error
        return text

    def answer(self) -> Answer:
        """The whole."""
        reason = self.text.finish_reason
        assert reason is not None
        return Answer(
            "".join(self.pieces),
            tuple(self.token_ids),
            reason,
            tuple(self.logprobs),
            self.error,
            tuple(self.origins),
        )


class LLM:
    """A model that is loaded once and answers many prompts, in batches. Safe to use from several threads.

    Use it as a context manager, or call `close`, to end its thread.
    """

    def __init__(self, model: str, **options: Any) -> None:
        """Loads a checkpoint folder or a hub id; `options` are those of `EngineConfig`.

        Raises:
            LoadError: it cannot be served on this machine.
        """
        core = EngineCore(EngineConfig(model=model, **options))
        self._hello = core.hello()
        self._tokenizer = Tokenizer(core.folder)
        # Whoever waits for a request's deltas; None tells that the engine has ended.
        self._sinks: dict[str, Callable[[TokenDelta | None], None]] = {}
        self._lock = threading.Lock()
        self._host = EngineHost(core, self._dispatch, self._end)
        self._is_open = True
        self._host.start()

    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool | None = None,
    ) -> list[Output]:
        """Answers all prompts, texts or token ids, and returns their outputs in order.

        Args:
            prompts: one text, several texts, or several lists of token ids
            params: for all prompts, or one for each
            progress: whether to show a bar; by default for more than 16 prompts

        Raises:
            RequestError: a prompt does not fit the context; nothing is generated then.
            EngineError: the engine was closed.
        """
        texts: list[str | Sequence[int]] = [prompts] if isinstance(prompts, str) else list(prompts)
        encoded = [self._encode(text) for text in texts]
        return self._run(encoded, params, len(encoded) > 16 if progress is None else progress)

    def chat(
        self,
        conversations: Sequence[Sequence[Mapping[str, object]]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool | None = None,
        **template_arguments: object,
    ) -> list[Output]:
        """Answers conversations, lists of messages, rendered by the checkpoint's chat template; else as `generate`."""
        encoded = [
            self._tokenizer.encode(
                self._tokenizer.render_chat(list(conversation), template_arguments), add_special_tokens=False
            )
            for conversation in conversations
        ]
        return self._run(encoded, params, len(encoded) > 16 if progress is None else progress)

    async def stream(self, prompt: str | Sequence[int], params: SamplingParams | None = None) -> AsyncIterator[str]:
        """Yields the text of one answer as it grows. Leaving early aborts it.

        Raises:
            RequestError: the prompt cannot be served.
            EngineError: the engine failed or was closed.
        """
        ids = self._encode(prompt)
        (growing,) = self._prepare(ids, params or SamplingParams(), index=0)[:1]
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[TokenDelta | None] = asyncio.Queue()

        def hear(delta: TokenDelta | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(inbox.put_nowait, delta)

        self._start(growing, hear)
        try:
            while growing.text.finish_reason is None:
                text = growing.add(_checked(await inbox.get()))
                if growing.error is not None:
                    raise RequestError(growing.error)
                if text:
                    yield text
        finally:
            self._stop(growing)

    def close(self) -> None:
        """Ends the engine's thread; requests that still run fail."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
        if was_open:
            self._host.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(
        self, encoded: list[list[int]], params: SamplingParams | Sequence[SamplingParams] | None, progress: bool
    ) -> list[Output]:
        shared = params if isinstance(params, SamplingParams) else SamplingParams()
        each = [shared] * len(encoded) if params is None or isinstance(params, SamplingParams) else list(params)
        if len(each) != len(encoded):
            raise RequestError(f"{len(encoded)} prompts have {len(each)} sampling parameters: pass one or one for each")
        several = [self._prepare(ids, one, index) for index, (ids, one) in enumerate(zip(encoded, each, strict=True))]
        running = {growing.submit.request_id: growing for answers in several for growing in answers}
        inbox: queue.SimpleQueue[TokenDelta | None] = queue.SimpleQueue()
        try:
            with Progress(disable=not progress, transient=True) as bar:
                task = bar.add_task("Generating", total=len(running))
                for growing in running.values():
                    self._start(growing, inbox.put)
                while running:
                    delta = _checked(inbox.get())
                    if delta.request_id not in running:
                        continue  # what the engine had computed before it heard of a stop string
                    growing = running[delta.request_id]
                    growing.add(delta)
                    if growing.text.finish_reason is not None:
                        self._stop(running.pop(delta.request_id))
                        bar.advance(task)
        finally:
            for growing in running.values():
                self._stop(growing)
        return [
            Output(
                tuple(answers[0].submit.prompt_ids),
                tuple(growing.answer() for growing in answers),
                tuple(answers[0].prompt_logprobs),
            )
            for answers in several
        ]

    def _encode(self, prompt: str | Sequence[int]) -> list[int]:
        return self._tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)

    def _prepare(self, ids: list[int], params: SamplingParams, index: int) -> list[_Growing]:
        """The requests for one prompt.

        Raises:
            RequestError: it does not fit the context.
        """
        hello = self._hello
        room = hello.max_model_len - len(ids)
        if not ids:
            raise RequestError(f"prompt {index} has no tokens")
        for name, value in (("n", params.n), ("max_tokens", params.max_tokens)):
            if value is not None and value < 1:
                raise RequestError(f"{name} must be at least 1, not {value}")
        if (params.max_tokens or 1) > room:
            raise RequestError(
                f"prompt {index} has {len(ids)} tokens, and the context of {hello.max_model_len} has no room for "
                f"{params.max_tokens or 1} more: shorten it or lower max_tokens"
            )

        drawn = protocol.SamplingParams(
            seed=(secrets.randbits(63) if params.seed is None else params.seed) % 2**64,
            max_tokens=params.max_tokens or room,
            min_tokens=params.min_tokens,
            temperature=hello.given(params.temperature, "temperature", 1.0),
            top_p=hello.given(params.top_p, "top_p", 1.0),
            top_k=max(0, int(hello.given(params.top_k, "top_k", 0))),
            min_p=hello.given(params.min_p, "min_p", 0.0),
            typical_p=params.typical_p,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            repetition_penalty=hello.given(params.repetition_penalty, "repetition_penalty", 1.0),
            logit_bias=dict(params.logit_bias),
            allowed_token_ids=tuple(params.allowed_token_ids),
            bad_words=self._tokenizer.encode_words(_several(params.bad_words)),
            stop_token_ids=tuple(params.stop_token_ids),
            max_time=params.max_time,
            ignore_eos=params.ignore_eos,
            num_logprobs=params.logprobs,
            num_prompt_logprobs=params.prompt_logprobs,
        )
        try:
            msgspec.convert(msgspec.to_builtins(drawn), protocol.SamplingParams)
        except msgspec.ValidationError as error:
            raise RequestError(f"sampling parameters of prompt {index}: {error}") from error
        prediction_ids = (
            self._tokenizer.encode(params.prediction, add_special_tokens=False) if params.prediction else []
        )
        speculation = hello.speculation(_several(params.speculation), None, prediction_ids)
        ends = frozenset((*hello.eos_token_ids, *params.stop_token_ids))
        return [
            _Growing(
                Submit(
                    request_id=secrets.token_hex(12),
                    prompt_ids=ids,
                    params=msgspec.structs.replace(drawn, seed=(drawn.seed + number) % 2**64),
                    speculation=speculation,
                    token_origins=params.return_token_origins,
                ),
                AnswerText(self._tokenizer.decode, _several(params.stop), ends),
            )
            for number in range(params.n)
        ]

    def _start(self, growing: _Growing, sink: Callable[[TokenDelta | None], None]) -> None:
        with self._lock:
            if not self._is_open:
                raise EngineError("the engine is closed: make a new LLM")
            self._sinks[growing.submit.request_id] = sink
            self._host.send(growing.submit)

    def _stop(self, growing: _Growing) -> None:
        """Forgets a request, and aborts it where it still runs."""
        with self._lock:
            if self._sinks.pop(growing.submit.request_id, None) is not None and self._is_open:
                self._host.send(protocol.Abort(growing.submit.request_id))

    def _dispatch(self, outputs: StepOutputs) -> None:
        """On the engine's thread: hands each delta to whoever waits for it."""
        with self._lock:
            waiting = [(self._sinks.get(delta.request_id), delta) for delta in outputs.deltas]
            for delta in outputs.deltas:
                if delta.finish_reason is not None:
                    self._sinks.pop(delta.request_id, None)
        for sink, delta in waiting:
            if sink is not None:
                sink(delta)

    def _end(self) -> None:
        with self._lock:
            self._is_open = False
            waiting, self._sinks = list(self._sinks.values()), {}
        for sink in waiting:
            sink(None)


def _several(texts: str | Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _checked(delta: TokenDelta | None) -> TokenDelta:
    if delta is None:
        raise EngineError("the engine was closed in the middle of the request")
    return delta
