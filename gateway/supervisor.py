"""Starts an engine process on this machine, and makes sure that it ends with us.

The listening socket is made here and inherited, so a connection can wait for the engine while it loads. The engine's
standard input is a pipe from this process: when that closes, however we die, the engine exits.
"""

import asyncio
import contextlib
import shutil
import socket
import sys
import tempfile
from pathlib import Path

TERMINATE_SECONDS = 5.0


class EngineProcess:
    """One running engine."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.unix_path = str(folder / "engine.sock")

    @classmethod
    async def start(cls, arguments: list[str]) -> "EngineProcess":
        """Starts `outrider engine` with these arguments; it is listening at once, and answers when it is loaded."""
        folder = Path(tempfile.mkdtemp(prefix="outrider-"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "engine.sock"))
            listener.listen()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "outrider.cli", "engine"),
                *(*arguments, "--listen", f"fd:{listener.fileno()}", "--exit-with-parent"),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is for us; we end the engine in order
            )
        return cls(process, folder)

    def forget_socket(self) -> None:
        """Removes the socket's folder; connections stay. Call it once connected: then nothing can be left behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def wait(self) -> int:
        """Waits for the process to end by itself and returns its status."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Ends the process: politely, then by force."""
        self.forget_socket()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(TERMINATE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
