"""Signals that ask a command to stop: held back while processes start that must never hear them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a request to end, and a terminal that was closed."""


def heeded() -> list[signal.Signals]:
    """Those that this process was not told to ignore, as nohup does."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals wait for the end of the context; processes that are started in it never get them.

    A process group, a control group or a job of Slurm is signalled as a whole. Then only the owner is
    to act: Ray has to run on until everything is saved. Processes inherit what their parent's thread
    blocks, and Ray's, which catch SIGTERM, unblock nothing. This process has other threads that a
    signal may reach, so its handlers wait too.
    """
    came: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    numbers = heeded() if in_main else []
    handlers = {n: signal.signal(n, lambda number, _: came.append(number)) for n in numbers}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            signal.raise_signal(came[0])
