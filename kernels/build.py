"""Builds the C kernels with the machine's own compiler and keeps them in the user's cache folder.

Knows nothing of what a kernel computes. A machine without a compiler gets None and one log line.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch  # loaded before any kernel, so that a kernel's OpenMP is torch's own thread pool

logger = logging.getLogger("outrider.kernels")

FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=gnu11", "-Wno-psabi")


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$XDG_CACHE_HOME/outrider`, by default `~/.cache/outrider`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outrider"


def compiler_name() -> str:
    """The command that compiles C: `$CC`, by default `cc`."""
    return os.environ.get("CC", "cc")


@functools.cache
def load_library(name: str) -> ctypes.CDLL | None:
    """The compiled `kernels/{name}.c`, built when this machine has not built this source before; None without one."""
    source = Path(__file__).with_name(f"{name}.c")
    compiler = shutil.which(compiler_name())
    if compiler is None:
        logger.warning(
            "no C compiler found: %s runs in torch, slower and not bit for bit; install gcc to change that", name
        )
        return None
    try:
        return ctypes.CDLL(str(_compiled(source, compiler)))
    except subprocess.CalledProcessError as error:
        problem = error.stderr.decode(errors="replace")[:200]
    except OSError as error:
        problem = str(error)
    logger.warning(
        "the C kernel %s could not be built; torch takes over, slower and not bit for bit: %s", name, problem
    )
    return None


def _compiled(source: Path, compiler: str) -> Path:
    headers = [header.read_text() for header in sorted(source.parent.glob("*.h"))]
    machine = (platform.node(), platform.machine(), _processor())
    identity = [source.read_text(), *headers, *FLAGS, compiler, *machine, torch.__version__]
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    file_name = f"{source.stem}-{digest}.so"
    problem: OSError | None = None
    for folder in (cache_folder(), Path(tempfile.gettempdir()) / f"outrider-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_uid != os.getuid():  # somebody else's folder: a library there could be theirs
                continue
            target = folder / file_name
            if not target.exists():
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    built = Path(scratch) / file_name
                    command = [compiler, *FLAGS, str(source), "-lm", "-o", str(built)]
                    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own source and flags
                    built.rename(target)  # whole or absent: another process may be building too
        except OSError as error:  # not ours, read-only, no folder at all: there is one more
            problem = error
            continue
        return target
    raise problem or PermissionError("no folder to keep compiled kernels in is ours")


def _processor() -> str:
    """What the processor can do: a folder may move to another machine of the same name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
