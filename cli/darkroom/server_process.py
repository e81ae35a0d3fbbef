"""A `darkroom serve` of one's own: started as a process, stopped whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx2

from darkroom.errors import CommandError

STOP_SECONDS: Final = 15.0
"""How long the server may take to end before it is killed."""

POLL_SECONDS: Final = 0.3

LOG_LINES: Final = 15
"""Lines of the log that an error shows."""


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class ServerProcess:
    """Runs `darkroom serve` in the background; a context manager."""

    def __init__(self, registry: Path, log: Path) -> None:
        """Serves a registry on a free port of this machine; what it prints goes to `log`."""
        self._port = free_port()
        self._registry = registry
        self._log = log

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "darkroom", "serve"]
        command += ["--registry", str(self._registry), "--port", str(self._port)]
        with self._log.open("wb") as log:
            # Its own session: Ctrl-C reaches this process only, which then stops the server.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def wait(self, timeout_s: float, ready: Callable[[], bool]) -> None:
        """Waits until `ready`; raises CommandError with the log's end when the server died or is late."""
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            if self.exit_code is not None:
                raise CommandError(f"the server ended before it was ready:\n{self._log_end()}")
            if time.monotonic() > deadline_s:
                raise CommandError(
                    f"the server was not ready after {timeout_s:.0f} s:\n{self._log_end()}"
                )
            time.sleep(POLL_SECONDS)

    def is_ready(self) -> bool:
        """Whether it answers requests by now."""
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx2.TransportError:
            return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _log_end(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_LINES:])
