"""Holds a job's run folder for the one process that trains it, and listens for requests to stop."""

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from darkroom_api.run_layout import LOCK_FILE, RUNNING_FILE
from darkroom_api.status import Reason
from darkroom_local.stop_signals import handled_by
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.stopping import clear_stop, request_stop

BEAT_S: Final = 1.0
"""How often `running` is touched. One that is no longer touched was left by a process that was killed."""


@contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Holds a job's run folder; the kernel gives it back when this process is killed.

    Requests to stop from before are forgotten. As long as `running` is there and touched, pods that
    are to go wait.

    Raises TrainerError when another process holds it, and when nothing can be written there.
    """
    with _lock_file(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainerError(
                Reason.ALREADY_RUNNING,
                f"another process trains this job in {folder}",
                "wait for its end, or choose another --work-dir",
            ) from error
        clear_stop(folder)
        with _beating(folder / RUNNING_FILE):
            yield


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK_FILE).open("w")
    except OSError as error:
        raise TrainerError(
            Reason.FOLDER_UNUSABLE,
            f"{folder}, the run's folder, can't be written: {error.strerror}",
            "mount its volume for writing, or choose another",
        ) from error


@contextmanager
def _beating(running: Path) -> Iterator[None]:
    """Makes a file, touches it from a thread, and removes it."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            with suppress(OSError):  # the next beat may get through
                os.utime(running)

    try:
        running.touch()
        threading.Thread(target=beat, daemon=True, name="running").start()
        yield
    finally:
        over.set()
        running.unlink(missing_ok=True)


@contextmanager
def stop_on_signals(folder: Path) -> Iterator[list[signal.Signals]]:
    """Turns the signals that ask to stop into such a request; yields those that came."""
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def stop(number: int, frame: object) -> None:
        received.append(signal.Signals(number))
        request_stop(folder)

    with handled_by(stop):
        yield received
