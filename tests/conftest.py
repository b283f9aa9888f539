"""Settings for all tests."""

import importlib
import importlib.util
import os
import signal

# Before torch is imported: threads that wait by spinning starve each other where another process is busy too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Beside another worker, two threads wait for each other and for a processor: a step of half a millisecond takes fifty.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# Triton's own functions are interpreted only where it is imported so, and other libraries import it. On a GPU machine
# TRITON_INTERPRET=0 leaves it as it is.
if importlib.util.find_spec("triton") is not None and "TRITON_INTERPRET" not in os.environ:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        importlib.import_module("triton")

# A busy machine is no failure.
settings.register_profile("outrider", deadline=None)
settings.load_profile("outrider")

# A shell's background job ignores these, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
