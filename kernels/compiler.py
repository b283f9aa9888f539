"""The C compiler's work: for which processors kernels are built, how, and where results are kept.

Needs nothing but Python, because `setup.py` uses it, too, for the wheel.
"""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Fused multiply-adds are part of what a kernel computes: avx2, avx512 and native builds have the same bits in float32.
FLAGS = ("-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC", "-std=gnu11", "-Wno-psabi")


@dataclass(frozen=True)
class Target:
    """A kind of processor."""

    name: str
    flags: tuple[str, ...]  # of the compiler
    needs: frozenset[str] = frozenset()  # of `processor_flags`; nothing for any processor of the machine's type


BASELINE = "baseline"

# What GCC 12's -O3 makes of sixteen lanes without AVX-512 is slower: attention of one row took 671 us, with -O2 125.
_WIDE, _NARROW = "-O3", "-O2"

# The levels of the x86-64 ABI, by the names of /proc/cpuinfo.
_V3 = frozenset(
    "pni ssse3 sse4_1 sse4_2 popcnt cx16 lahf_lm avx avx2 bmi1 bmi2 f16c fma abm movbe xsave".split()  # noqa: SIM905 - as Linux has them
)
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

_TARGETS = {
    "x86_64": (
        Target(
            "avx512bf16",
            (_WIDE, "-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni"),
            _V4 | {"avx512_bf16", "avx512_vnni"},
        ),
        Target("avx512", (_WIDE, "-march=x86-64-v4"), _V4),
        Target("avx2", (_NARROW, "-march=x86-64-v3"), _V3),
        Target(BASELINE, (_NARROW, "-march=x86-64")),
    ),
    "aarch64": (Target(BASELINE, (_NARROW, "-march=armv8-a")),),
}


def targets() -> tuple[Target, ...]:
    """What kernels are built ahead for on machines of this type, best first; none on other types."""
    return _TARGETS.get(platform.machine(), ())


@functools.cache
def processor_flags() -> frozenset[str]:
    """What processor and operating system can do together, by the names of Linux; empty on other systems."""
    for line in _processor_lines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


@functools.cache
def native() -> Target:
    """This very machine."""
    return Target("native", (_WIDE if "avx512f" in processor_flags() else _NARROW, "-march=native"))


def compiler_name() -> str:
    """The command that compiles C: `$CC`, by default `cc`."""
    return os.environ.get("CC", "cc")


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$XDG_CACHE_HOME/outrider`, by default `~/.cache/outrider`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outrider"


def compiled(source: Path, target: Target) -> Path:
    """The library of a C file, compiled when this user has not compiled it before.

    Raises:
        subprocess.CalledProcessError: the compiler fails; `stderr` has its bytes.
        OSError: there is no compiler, or no folder for the result.
    """
    compiler = shutil.which(compiler_name())
    if compiler is None:
        raise FileNotFoundError("no C compiler found")
    headers = [header.read_text() for header in sorted(source.parent.glob("*.h"))]
    flags = (*FLAGS, *target.flags)
    # A native library is for this very machine: a folder may move to another one of the same name.
    machine = [platform.node(), *_processor_lines()] if target == native() else []
    identity = [source.read_text(), *headers, *flags, compiler, platform.machine(), *machine]
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    file_name = f"{source.stem}-{target.name}-{digest}.so"
    problem: OSError | None = None
    for folder in (cache_folder(), Path(tempfile.gettempdir()) / f"outrider-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_uid != os.getuid():  # somebody else's folder: a library there could be theirs
                continue
            library = folder / file_name
            if not library.exists():
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    built = Path(scratch) / file_name
                    command = [compiler, *flags, str(source), "-lm", "-o", str(built)]
                    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own source and flags
                    built.rename(library)  # whole or absent: another process may be building too
        except OSError as error:  # not ours, read-only, no folder at all: there is one more
            problem = error
            continue
        return library
    raise problem or PermissionError("no folder to keep compiled kernels in is ours")


def _processor_lines() -> list[str]:
    """What tells processors apart, without what differs between equal ones."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [platform.processor()]
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
