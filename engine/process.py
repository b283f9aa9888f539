"""The engine as a process: load the model, listen, serve until told to stop. Never outlives who started it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvloop

from outrider.engine.config import EngineConfig
from outrider.engine.errors import LoadError
from outrider.engine.host import Core
from outrider.engine.transport import EngineServer

logger = logging.getLogger("outrider.engine")


def run_engine(config: EngineConfig, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        LoadError: the model cannot be served.
    """
    from outrider.engine.core import EngineCore  # noqa: PLC0415, a null engine does without torch

    # The step thread holds the interpreter for long: without this the socket waits up to 5 ms for its turn.
    sys.setswitchinterval(0.001)
    try:
        core = EngineCore(config)
    except BaseException:
        listener.close()
        raise
    capacity = core.blocks.num_blocks * core.blocks.block_size
    logger.info(
        "%s loaded in %s; the KV cache holds %d tokens in %.2f GiB, full-length requests: %d",
        config.model,
        core.dtype,
        capacity,
        core.kv_bytes / 2**30,
        capacity // core.max_model_len,
    )
    if config.speculators:
        logger.info("speculators: %s", ", ".join(f"{name} from {path}" for name, path in config.speculators.items()))
    run_core(core, listener)


def run_core(core: Core, listener: socket.socket) -> None:
    """Serves any core until SIGTERM or SIGINT.

    Raises:
        LoadError: its step loop broke.
    """
    uvloop.run(_serve(core, listener))


def listen_on(address: str) -> socket.socket:
    """A listening socket for `unix:/path`, or `fd:N`, one that was inherited.

    Raises:
        LoadError: the address cannot be used.
    """
    kind, _, place = address.partition(":")
    if kind not in ("unix", "fd") or (kind == "fd" and not place.isdigit()):
        raise LoadError(f"cannot listen on `{address}`: write unix:/path")
    try:
        if kind == "fd":
            return socket.socket(fileno=int(place))
        if Path(place).is_socket():  # left by an engine that was killed
            Path(place).unlink()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(place)
        Path(place).chmod(0o600)
        listener.listen()
    except OSError as error:
        raise LoadError(f"cannot listen on `{address}`: {error}") from error
    return listener


def exit_when_parent_ends() -> None:
    """Ends this process at once when its standard input closes.

    The parent holds the other end of that pipe, so it closes however the parent dies, even by SIGKILL.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        os._exit(1)

    threading.Thread(target=watch, name="outrider-parent", daemon=True).start()


async def _serve(core: Core, listener: socket.socket) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = EngineServer(core)
    await server.start(listener)
    tasks = [asyncio.create_task(wait) for wait in (stop.wait(), server.wait_ended())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await server.close()
    if not stop.is_set():
        raise LoadError("the engine broke, see above")
