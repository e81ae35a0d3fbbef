"""Signals that ask a command to stop: held back while processes start that must never hear them."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a request to end, and a terminal that was closed."""


def heeded() -> list[signal.Signals]:
    """Those that this process was not told to ignore, as nohup does."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Gives the heeded signals to a handler; the former ones are put back at the end.

    Must run in the main thread.
    """
    before = {number: signal.signal(number, handler) for number in heeded()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with handled_by(lambda number, _: came.append(number)) if in_main else nullcontext():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            signal.raise_signal(came[0])
