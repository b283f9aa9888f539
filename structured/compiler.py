"""The gateway's side of structured output: from a constraint to a compiled grammar, once per content.

Compiling happens in worker processes that can be killed; this module imports neither torch nor the grammar library.
"""

import asyncio
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from outrider.structured import limits
from outrider.structured.constraint import CompiledGrammar, Constraint
from outrider.structured.errors import CompileFailed, CompileTimeout, SchemaError, WorkerError
from outrider.structured.jobs import (
    Compiled,
    Failure,
    Job,
    Ready,
    Reply,
    Setup,
)
from outrider.structured.pipes import end, frame, read_reply
from outrider.structured.plain import left_over, plain_key

_START_SECONDS: Final = 120.0
_FAILURE_BYTES: Final = 1024  # what a remembered failure counts for
_ERRORS: Final = {"compile": CompileFailed, "timeout": CompileTimeout}


class Compiler:
    """Compiles constraints; equal ones once, whether they come one after another or together.

    A schema that is well formed, but whose grammar would be too slow or too large, gets one of plain JSON and is left
    to the validator. Failures are remembered like grammars, except timeouts, which a busy machine may have caused:
    those for `retry_seconds`.
    """

    def __init__(
        self,
        tokenizer_path: Path | str,
        vocab_size: int,
        stop_token_ids: Iterable[int],
        *,
        num_workers: int = 1,
        wall_seconds: float = 5.0,
        cpu_seconds: float = 2.0,
        memory_bytes: int = 4 * 2**30,
        cache_bytes: int = 256 * 2**20,
        retry_seconds: float = 60.0,
        budget_seconds: float = 0.02,
    ) -> None:
        stops = tuple(stop_token_ids)
        setup = Setup(str(tokenizer_path), vocab_size, stops, cpu_seconds, memory_bytes, budget_seconds)
        self._workers = [_Worker(setup, wall_seconds) for _ in range(num_workers)]
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        self._tasks: dict[str, asyncio.Task[Compiled | Failure]] = {}  # one per content under way
        self._cache = _Cache(cache_bytes, retry_seconds)

    def __repr__(self) -> str:
        return f"Compiler({self._workers}, {len(self._tasks)} under way, {self._cache})"

    async def start(self) -> None:
        """Start the workers; they need seconds to import, which the first compile waits for."""
        for worker in self._workers:
            await worker.start()
            self._idle.put_nowait(worker)

    async def close(self) -> None:
        """Cancel what is under way and end the workers."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for worker in self._workers:
            await worker.close()

    def is_cached(self, constraint: Constraint) -> bool:
        """Whether `compile` has met this constraint before and would answer at once."""
        try:
            return self._cache.get(constraint.key) is not None
        except SchemaError:  # not JSON: `compile` says so
            return False

    async def compile(self, constraint: Constraint) -> CompiledGrammar:
        """The grammar of a constraint.

        Raises SchemaError (the schema's fault, every offending keyword named), CompileTimeout or CompileFailed (too
        costly, and no schema, so that plain JSON cannot stand in), WorkerError (ours). Cancelling one caller leaves
        the compile to the others.
        """
        text = constraint.text
        limits.check_text(text)
        key = constraint.key
        reply = self._cache.get(key)
        if reply is None:
            task = self._tasks.get(key)
            if task is None:
                job = Job(constraint.kind, text, constraint.whitespace)
                task = self._tasks[key] = asyncio.create_task(self._run(key, job), name=key)
                task.add_done_callback(self._finish)
            reply = await asyncio.shield(task)
        if isinstance(reply, Compiled):
            return CompiledGrammar(key, reply.backend, reply.data, reply.reason, reply.left, text)
        if reply.kind == "schema":
            raise SchemaError(reply.message, pointer=reply.pointer, keyword=reply.keyword)
        raise _ERRORS[reply.kind](reply.message)

    async def _run(self, key: str, job: Job) -> Compiled | Failure:
        """One compile, from the wait for a worker to the cache."""
        worker = await self._idle.get()
        try:
            reply = await worker.compile(job)
        finally:
            self._idle.put_nowait(worker)
        is_lasting = isinstance(reply, Compiled) or reply.kind != "timeout"
        if isinstance(reply, Failure) and reply.kind != "schema" and job.kind == "json_schema":
            reply = worker.plain(job, reply)
        self._cache.put(key, reply, is_lasting=is_lasting)
        return reply

    def _finish(self, task: asyncio.Task[Compiled | Failure]) -> None:
        """Forget a task; look at its outcome, for the case that every caller has gone."""
        del self._tasks[task.get_name()]
        if not task.cancelled():
            task.exception()


class _Cache:
    """Replies by content, least recently used ones dropped first."""

    def __init__(self, max_bytes: int, retry_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._retry_seconds = retry_seconds
        self._replies: OrderedDict[str, tuple[Compiled | Failure, float]] = OrderedDict()  # with expiry
        self._num_bytes = 0

    def __repr__(self) -> str:
        return f"{len(self._replies)} cached in {self._num_bytes} bytes"

    def get(self, key: str) -> Compiled | Failure | None:
        if key not in self._replies:
            return None
        reply, expiry = self._replies[key]
        if asyncio.get_running_loop().time() >= expiry:
            self._drop(key)
            return None
        self._replies.move_to_end(key)
        return reply

    def put(self, key: str, reply: Compiled | Failure, *, is_lasting: bool) -> None:
        expiry = float("inf") if is_lasting else asyncio.get_running_loop().time() + self._retry_seconds
        self._replies[key] = (reply, expiry)
        self._num_bytes += _size(reply)
        while self._num_bytes > self._max_bytes and len(self._replies) > 1:
            self._drop(next(iter(self._replies)))

    def _drop(self, key: str) -> None:
        reply, _ = self._replies.pop(key)
        self._num_bytes -= _size(reply)


def _size(reply: Compiled | Failure) -> int:
    return len(reply.data) if isinstance(reply, Compiled) else _FAILURE_BYTES


class _Worker:
    """One compile process, replaced when it dies or is killed."""

    def __init__(self, setup: Setup, wall_seconds: float) -> None:
        self._setup = setup
        self._wall_seconds = wall_seconds
        self._decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
        self._process: asyncio.subprocess.Process | None = None
        self._is_ready = False
        self._plain: dict[str, Compiled] = {}

    def __repr__(self) -> str:
        return f"worker {None if self._process is None else self._process.pid}"

    async def start(self) -> None:
        """Start the process without waiting until it is ready."""
        # Its own session: Ctrl-C in a terminal reaches the gateway alone, which then ends its workers.
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "outrider.structured.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        self._is_ready = False
        assert self._process.stdin is not None, "made with pipes"
        self._process.stdin.write(frame(self._setup))

    async def compile(self, job: Job) -> Compiled | Failure:
        """One job. A process that passes the deadline or dies is replaced; WorkerError when none can start."""
        try:
            reply = await self._exchange(job)
            if reply is None:  # it may have died before this job
                reply = await self._exchange(job)
            message = "the schema needs more memory than one compile may take: simplify it"
            return reply or Failure("compile", message)
        except TimeoutError:
            await self._replace()
            message = f"the schema took more than {self._wall_seconds:g} s to compile: simplify it"
            return Failure("timeout", message)
        except BaseException:  # cancelled or broken in mid-frame: the stream cannot be used again
            await asyncio.shield(self.close())
            raise

    def plain(self, job: Job, failure: Failure) -> Compiled:
        """What stands in for a schema, once a job for it has failed; asks no process, for the last one may be gone."""
        grammar = self._plain[plain_key(job.text, job.whitespace)]
        reason = f"the schema has no grammar of its own; {grammar.reason}"
        return msgspec.structs.replace(grammar, reason=reason, left=(left_over(failure.message),))

    async def close(self) -> None:
        """End the process and its pipes."""
        process, self._process = self._process, None
        if process is not None:
            await end(process)

    async def _exchange(self, job: Job) -> Compiled | Failure | None:
        """Send one job and read its reply; None when the process died, and another has been started."""
        process = await self._ready_process()
        assert process.stdin is not None, "made with pipes"
        process.stdin.write(frame(job))
        async with asyncio.timeout(self._wall_seconds):
            reply = await read_reply(process, self._decoder, "the compile process")
        if reply is None:
            code = await process.wait()
            await self._replace()
            if code == -signal.SIGXCPU:
                message = f"the schema took more than {self._setup.cpu_seconds:g} s of CPU time to compile: simplify it"
                return Failure("timeout", message)
            return None
        if isinstance(reply, Ready):
            raise WorkerError("the compile process broke its protocol")
        return reply

    async def _ready_process(self) -> asyncio.subprocess.Process:
        """A process that has its vocabulary, started anew when the last one died."""
        if self._process is not None and self._process.returncode is not None:
            await self.close()
        if self._process is None:
            await self.start()
        process = self._process
        assert process is not None, "just started"
        if not self._is_ready:
            try:
                async with asyncio.timeout(_START_SECONDS):
                    reply = await read_reply(process, self._decoder, "the compile process")
            except TimeoutError as error:
                raise WorkerError(f"the compile process was not ready after {_START_SECONDS:g} s") from error
            if not isinstance(reply, Ready):
                raise WorkerError("the compile process could not start: its own message is on standard error")
            self._is_ready = True
            self._plain = reply.plain
        return process

    async def _replace(self) -> None:
        await self.close()
        await self.start()
