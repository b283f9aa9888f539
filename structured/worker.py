"""The compile process: audits schemas and compiles grammars within bounds, one at a time.

It speaks `jobs` frames on its standard input and output and ends when its input does, so it never outlives the gateway;
a job under way then is cut short by its CPU limit. Whatever C++ prints goes to standard error's place and is read back:
a warning means that the grammar library left something out, and fails the job.
"""

import contextlib
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import msgspec
import torch

from outrider.structured.backends import Backends
from outrider.structured.errors import CompileFailed, SchemaError, first_line
from outrider.structured.jobs import Failure, Job, Ready, Reply, Request, Setup
from outrider.structured.pipes import limit_cpu, read, write
from outrider.structured.plain import PLAIN
from outrider.structured.vocabulary import tokenizer_info


def main() -> None:
    """Serve jobs until the input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with (
        contextlib.suppress(BrokenPipeError),  # the gateway is gone
        os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output,
        os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1) as errors,
        tempfile.TemporaryFile() as printed,
    ):
        # Python keeps the true standard error; file descriptors 1 and 2, which C++ knows, lead to the file.
        sys.stderr = errors
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        decoder = msgspec.msgpack.Decoder(Request)
        setup = read(sys.stdin.buffer, decoder)
        if not isinstance(setup, Setup):
            return
        torch.set_num_threads(1)
        info = tokenizer_info(setup.tokenizer_path, setup.vocab_size, setup.stop_token_ids)
        backends = Backends(info, setup.budget_seconds)
        plain = {one.key: backends.compile(one.kind, one.text, one.whitespace) for one in PLAIN}
        _limit_memory(setup.memory_bytes)
        write(output, Ready(plain))
        while isinstance(job := read(sys.stdin.buffer, decoder), Job):
            limit_cpu(setup.cpu_seconds)
            write(output, _reply(backends, job, printed))


def _reply(backends: Backends, job: Job, printed: BinaryIO) -> Reply:
    """The outcome of one job, every error turned into its sentence."""
    printed.seek(0)
    printed.truncate()
    try:
        compiled = backends.compile(job.kind, job.text, job.whitespace)
        warning = _warning(printed)
        if warning:
            raise CompileFailed(f"the grammar compiler would not enforce the schema: {warning}")
        return compiled
    except SchemaError as error:
        return Failure("schema", str(error), error.pointer, error.keyword)
    except CompileFailed as error:
        return Failure("compile", str(error))
    except (RuntimeError, MemoryError) as error:  # xgrammar's own
        return Failure("compile", f"the grammar compiler refuses the schema: {first_line(error)}")
    except Exception as error:  # noqa: BLE001 - the boundary of the process: one schema must not end it
        sys.excepthook(type(error), error, error.__traceback__)
        return Failure("compile", f"the schema could not be compiled ({type(error).__name__})")


def _warning(printed: BinaryIO) -> str:
    """What C++ has printed since the last job, its first warning."""
    printed.seek(0)
    lines = printed.read().decode(errors="replace").splitlines()
    return next((first_line(line) for line in lines if "Warning" in line), "")


def _limit_memory(num_bytes: int) -> None:
    """Allow so much more address space than is in use now; a failed allocation fails the job or ends the process."""
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        used = int(statistics.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + num_bytes, hard))


if __name__ == "__main__":
    main()
