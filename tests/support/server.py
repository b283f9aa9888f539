"""A real server in a process of its own, as a user starts it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-P", "-m", "outrider.cli"]
_URL = re.compile(r"at (http://\S+)/v1")


class Server:
    """`outrider serve` on a free port. The constructor returns when it takes requests."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            text=True,
            start_new_session=True,
        )
        self.url = self._wait_for_url()

    def children(self) -> list[int]:
        """Process ids of the engine and of the compile worker."""
        children: list[int] = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended while we looked
            if int(fields[1]) == self.process.pid:
                children.append(int(stat.parent.name))
        return children

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal; returns the exit status and what was printed."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Waits for the end; returns the exit status and what was printed."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out + err

    def _wait_for_url(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = _URL.search(line)
            if found:
                return found[1]
        _, err = self.process.communicate()
        raise AssertionError(f"the server did not start: {err}")
