"""Settings for all tests."""

import os
import signal

# Before torch is imported: threads that wait by spinning starve each other where another process is busy too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("outrider", deadline=None)
settings.load_profile("outrider")

# A shell's background job ignores these, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
