"""The checker process: audits schemas and checks finished answers, one at a time.

It speaks `jobs` frames on its standard input and output, imports no grammar library, and ends when its input does. What
takes too long is ended by the kernel or by the gateway: nothing in a schema or an answer can hold up more than itself.
"""

import contextlib
import json
import os
import resource
import sys
from functools import lru_cache
from typing import Final

import msgspec

from outrider.structured.audit import audit
from outrider.structured.errors import SchemaError
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
from outrider.structured.pipes import limit_cpu, read, write
from outrider.structured.validator import Validator

CPU_SECONDS: Final = 1.0  # of one job, rounded up to the kernel's whole seconds
_MEMORY_BYTES: Final = 2 * 2**30  # of address space


def main() -> None:
    """Serve jobs until the input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, hard))
    decoder = msgspec.msgpack.Decoder(CheckerRequest)
    # Nothing else may print into the frames.
    with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        write(output, Ready())
        while (job := read(sys.stdin.buffer, decoder)) is not None:
            limit_cpu(CPU_SECONDS)
            write(output, _audited(job) if isinstance(job, AuditJob) else _checked(job))


def _audited(job: AuditJob) -> CheckerReply:
    try:
        result = audit(json.loads(job.schema))
        return Audited(result.route, result.findings)
    except SchemaError as error:
        return Failure("schema", str(error), error.pointer, error.keyword)
    except (ValueError, RecursionError) as error:
        return Failure("schema", f"the schema is not JSON: {error}")


def _checked(job: CheckJob) -> CheckerReply:
    try:
        return Checked(_validator(job.schema).violations(job.text))
    except SchemaError as error:  # the audit lets none through
        return Checked((Violation("", "", f"the answer cannot be checked: {error}"),))


@lru_cache(maxsize=32)
def _validator(schema: bytes) -> Validator:
    return Validator(json.loads(schema))


if __name__ == "__main__":
    main()
