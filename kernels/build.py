"""Finds the compiled form of each C kernel: prebuilt in the wheel, or built with the machine's own compiler.

Knows nothing of what a kernel computes. A machine that has neither gets None and one log line.
"""

import ctypes
import functools
import logging
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch  # noqa: F401 - loaded before any kernel, so that a kernel's OpenMP is torch's own thread pool

from outrider.kernels.compiler import Target, compiled, native, processor_flags, targets

logger = logging.getLogger("outrider.kernels")

VARIABLE = "OUTRIDER_KERNELS"  # the environment variable that names the build that is wanted


@dataclass(frozen=True, slots=True)
class Build:
    """What a kernel runs as on this machine."""

    name: str  # a target's, or "torch"
    reason: str
    path: Path | None = None
    library: ctypes.CDLL | None = None


def load_library(name: str) -> ctypes.CDLL | None:
    """The compiled `kernels/{name}.c`; None where torch takes over."""
    return find_build(name).library


@functools.cache
def find_build(name: str) -> Build:
    """The best build of `kernels/{name}.c` that this machine can run. It may be compiled now, which takes seconds."""
    wanted = _wanted(os.environ.get(VARIABLE, ""))
    if wanted == "torch":
        return Build("torch", f"{VARIABLE} says so")
    problem = ""
    for target, reason in _candidates(name) if wanted is None else [(wanted, f"{VARIABLE} says so")]:
        path = _prebuilt(name, target)
        try:
            if not path.exists():
                path = compiled(Path(__file__).with_name(f"{name}.c"), target)
            build = Build(target.name, reason, path, ctypes.CDLL(str(path)))
        except subprocess.CalledProcessError as error:
            problem = f"{name}.c could not be built: {error.stderr.decode(errors='replace')[:200]}"
        except OSError as error:
            problem = str(error)
        else:
            if problem:
                logger.warning("%s: %s runs in the build %s instead", problem, name, target.name)
            return build
    logger.warning("%s: %s runs in torch, slower and not bit for bit; install gcc to change that", problem, name)
    return Build("torch", problem.partition(":")[0])


def usable_targets() -> list[Target]:
    """What this processor can run of what is built ahead, best first."""
    return [target for target in targets() if target.needs <= processor_flags()]


def _candidates(name: str) -> Iterator[tuple[Target, str]]:
    """Builds to try, with the reason.

    Prebuilt ones come before a compiler: they are as fast as `-march=native`, and a first start need not wait ten
    seconds for it. On a Zen 4 of two cores, avx512bf16 beside native: linear of 1 and 16 rows 268 and 584 us beside 271
    and 570, attention of 16 rows 636 beside 647, sampling 7.1 ms beside 7.9; avx2 beside `-march=znver3`: linear of 16
    rows 4.5 ms beside 4.5, attention of one row 125 us beside 120. What runs on any processor of the machine's type
    comes after it.
    """
    prebuilt = [target for target in usable_targets() if _prebuilt(name, target).exists()]
    yield from ((target, "prebuilt, as fast as one made here") for target in prebuilt if target.needs)
    yield native(), "compiled for this processor"
    yield from ((target, "prebuilt, none could be made here") for target in prebuilt if not target.needs)


def _prebuilt(name: str, target: Target) -> Path:
    """Where a wheel has a kernel's library; setup.py puts it there."""
    return Path(__file__).with_name("prebuilt") / f"{name}-{target.name}.so"


@functools.cache
def _wanted(value: str) -> Target | Literal["torch"] | None:
    """The build of that name, None for the best; one that this processor cannot run is never loaded."""
    choices = {target.name: target for target in (native(), *usable_targets())}
    if not value or value in choices:
        return choices.get(value)
    if value == "torch":
        return "torch"
    logger.error("%s=%s is ignored: this machine can use %s, torch", VARIABLE, value, ", ".join(choices))
    return None
