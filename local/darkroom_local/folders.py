"""The folder of a local Ray: private to its user, locked by its owner, and removed when nobody needs it."""

import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from darkroom_local.keeper import LOCK_FILE, LOGS, RAY, end_processes, remove

PREFIX: Final = "darkroom-ray-"

LONGEST_ROOT: Final = 16
"""Characters of the folder that holds ours: the paths of Ray's sockets are 90 longer, and may have 107."""

KEPT_SECONDS: Final = 24 * 3600.0
"""How long the logs of a failure are kept."""

STARTING_SECONDS: Final = 60.0
"""A younger folder without its lock is just being made."""


@dataclass(frozen=True)
class Folder:
    """A session's folder."""

    path: Path

    @property
    def ray(self) -> Path:
        """Ray's own folder of sessions."""
        return self.path / RAY

    @property
    def token(self) -> Path:
        """The file of Ray's token."""
        return self.path / "token"

    @property
    def kept_logs(self) -> Path:
        """Where Ray's logs are after a failure."""
        return self.path / LOGS


@contextmanager
def locked_folder() -> Iterator[Folder]:
    """A new folder with a new token, which nobody but this user can open."""
    root = _root()
    sweep(root)
    folder = Folder(Path(tempfile.mkdtemp(prefix=PREFIX, dir=root)))  # mode 0700
    with (folder.path / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        descriptor = os.open(folder.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        yield folder


def _root() -> Path:
    """Where temporary files go; /tmp where that is too deep for Ray's sockets."""
    usual = tempfile.gettempdir()
    return Path(usual if len(usual) <= LONGEST_ROOT else "/tmp")  # noqa: S108 - a folder of ours in it


def sweep(root: Path) -> None:
    """Ends and removes what was left by owners that were killed together with their keepers."""
    for path in root.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or just removed by its keeper
            if path.stat().st_uid == os.getuid():
                _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    age_s = time.time() - path.stat().st_mtime
    if not (path / LOCK_FILE).exists():
        if age_s > (KEPT_SECONDS if (path / LOGS).is_dir() else STARTING_SECONDS):
            remove(path, keep_logs=False)
        return
    with (path / LOCK_FILE).open("r+") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if age_s > STARTING_SECONDS:
            end_processes(path, psutil.Process())
            remove(path, keep_logs=False)
