"""Ends what is left of a local Ray when its owner is gone, however the owner ended.

`python keeper.py FOLDER OWNER_PID`, a process of its own: it waits for the lock of the session's folder,
which the owner holds for as long as it lives, then kills Ray's processes and removes the folder. It
imports nothing of darkroom, so it starts in a few milliseconds.
"""

import fcntl
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

SESSION_ENV: Final = "DARKROOM_RAY_SESSION"
"""Environment of Ray's processes: the session's folder."""

LOCK_FILE: Final = "lock"
"""Held by the owner, and given back by the kernel when the owner is killed."""

RAY: Final = "ray"
"""Folder that is Ray's, in that of the session: Ray opens it to everyone."""

LOGS: Final = "logs"
"""Folder of Ray's logs, kept after a failure."""

END_SECONDS: Final = 10.0
"""Longest wait until all of them are gone."""


def processes_of(folder: Path, spared: psutil.Process | None) -> list[psutil.Process]:
    """Processes of the session in a folder, but for its owner."""
    return [
        process
        for process in psutil.process_iter()
        if process != spared and process.pid != os.getpid() and _belongs(process, folder)
    ]


def _belongs(process: psutil.Process, folder: Path) -> bool:
    """Whether a process was started with the session's environment, or writes to its folder.

    Ray's agents overwrite their environment with their title, but they write logs. Someone who only
    reads a log is not one of them.
    """
    with suppress(psutil.Error, OSError):
        if process.environ().get(SESSION_ENV) == str(folder):
            return True
        opened = process.open_files()
        return any(file.path.startswith(f"{folder}/") and file.mode != "r" for file in opened)
    return False


def end_processes(folder: Path, spared: psutil.Process | None) -> None:
    """Kills all processes of a session, those too that start meanwhile."""
    deadline_s = time.monotonic() + END_SECONDS
    while (left := processes_of(folder, spared)) and time.monotonic() < deadline_s:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def remove(folder: Path, *, keep_logs: bool) -> None:
    """Removes a session's folder; of one that failed the logs stay."""
    logs = next(folder.glob(f"{RAY}/session_2*/{LOGS}"), None)
    if keep_logs and logs is not None:
        logs.rename(folder / LOGS)
    for path in folder.iterdir():
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
        elif not (keep_logs and path.name == LOGS):
            shutil.rmtree(path, ignore_errors=True)
    if not keep_logs:
        shutil.rmtree(folder, ignore_errors=True)


def main(folder: Path, owner_pid: int) -> None:
    """Waits for the owner's end; what the owner has ended and removed itself is not there any more."""
    owner = None
    with suppress(psutil.NoSuchProcess):
        owner = psutil.Process(owner_pid)
    try:
        lock = (folder / LOCK_FILE).open("w")
    except FileNotFoundError:
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        end_processes(folder, owner)
        if (folder / LOCK_FILE).exists():  # else its owner has tidied up
            remove(folder, keep_logs=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
