"""The processes of a local Ray: whether it can go on, and that none of them outlives the server."""

from contextlib import suppress
from typing import Final

import psutil

from darkroom_serving.errors import ServingError

HEAD_PROCESSES: Final = frozenset({"gcs_server", "raylet"})
"""Processes without which a local Ray can't go on."""

END_SECONDS: Final = 5.0
"""Longest wait for what Ray was told to end; then it is killed."""


class RayProcesses:
    """All that this process has started, directly or not, since this object was made."""

    def __init__(self) -> None:
        """To be made before Ray is started: what runs already is not Ray's."""
        self._others = set(psutil.Process().children(recursive=True))
        self._seen: set[psutil.Process] = set()

    def check_head(self) -> None:
        """Raises ServingError when Ray's head was killed."""
        if self.head_is_dead():
            raise ServingError("Ray's head process was killed; start the server again")

    def head_is_dead(self) -> bool:
        """Whether one of the two processes ended without which a local Ray can't go on."""
        # Remembered, because the children of a process that died are nobody's children.
        self._seen.update(set(psutil.Process().children(recursive=True)) - self._others)
        return not set(map(_living_name, self._seen)) >= HEAD_PROCESSES

    def end(self) -> None:
        """Kills what is left of them: without its head, Ray leaves some for a minute or more."""
        _, left = psutil.wait_procs(self._seen, timeout=END_SECONDS)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _living_name(process: psutil.Process) -> str | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.name())
    except psutil.NoSuchProcess:
        return None
