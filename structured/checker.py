"""The gateway's side of validation: audits of schemas and checks of finished answers, in a process that can be ended.

The process starts with the first job and imports neither torch nor the grammar library, so a new one takes a moment.
"""

import asyncio
import sys
from typing import Final

import msgspec

from outrider.structured import limits
from outrider.structured.errors import SchemaError, WorkerError
from outrider.structured.finding import Violation
from outrider.structured.jobs import (
    Audited,
    AuditJob,
    Checked,
    CheckerReply,
    CheckerRequest,
    CheckJob,
    Failure,
    Ready,
)
from outrider.structured.pipes import end, frame, read_reply

_START_SECONDS: Final = 60.0


class Checker:
    """Runs one job at a time; a job that takes too long loses its process, and nothing else."""

    def __init__(self, *, wall_seconds: float = 2.5) -> None:
        """Args: wall_seconds: for one job, on top of the CPU time that the process allows itself."""
        self._wall_seconds = wall_seconds
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._decoder: msgspec.msgpack.Decoder[CheckerReply] = msgspec.msgpack.Decoder(CheckerReply)

    def __repr__(self) -> str:
        return f"Checker(process {None if self._process is None else self._process.pid})"

    async def audit(self, schema: bytes) -> Audited:
        """What becomes of a schema's keywords; `schema` is JSON text.

        Raises SchemaError when it is none, is above a limit or takes too long, WorkerError when no process can start.
        """
        limits.check_text(schema)
        reply = await self._run(AuditJob(schema))
        if isinstance(reply, Audited):
            return reply
        if isinstance(reply, Failure):
            raise SchemaError(reply.message, pointer=reply.pointer, keyword=reply.keyword)
        raise SchemaError("the schema takes too much time or memory to be read: simplify it")

    async def check(self, schema: bytes, text: str) -> tuple[Violation, ...]:
        """What is wrong with a finished answer; a check that takes too long is a violation too. Raises WorkerError."""
        reply = await self._run(CheckJob(schema, text))
        if isinstance(reply, Checked):
            return reply.violations
        return (Violation("", "", "the answer takes too much time or memory to be checked against this schema"),)

    async def close(self) -> None:
        """End the process and its pipes."""
        process, self._process = self._process, None
        if process is not None:
            await end(process)

    async def _run(self, job: CheckerRequest) -> CheckerReply | None:
        """The reply to a job, None when the process had to be ended, or ended by itself."""
        async with self._lock:
            process = await self._ready_process()
            assert process.stdin is not None, "made with pipes"
            try:
                process.stdin.write(frame(job))
                async with asyncio.timeout(self._wall_seconds):
                    reply = await read_reply(process, self._decoder, "the checker")
            except TimeoutError:
                reply = None
            except BaseException:  # cancelled in mid-frame: the stream cannot be used again
                await asyncio.shield(self.close())
                raise
            if reply is None:
                await self.close()
            return reply

    async def _ready_process(self) -> asyncio.subprocess.Process:
        """The process, started where there is none; in a session of its own, since Ctrl-C is for the gateway."""
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self.close()
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "outrider.structured.checker_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                reply = await read_reply(process, self._decoder, "the checker")
        except BaseException as error:
            await asyncio.shield(self.close())
            if isinstance(error, TimeoutError):
                raise WorkerError(f"the checker was not ready after {_START_SECONDS:g} s") from error
            raise
        if not isinstance(reply, Ready):
            await self.close()
            raise WorkerError("the checker could not start: its own message is on standard error")
        return process
