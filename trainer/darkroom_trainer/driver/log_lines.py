"""A line in the driver's log now and then: how far the run is, for whoever reads a pod's log."""

import logging
import time
from collections.abc import Callable
from typing import Final

from darkroom_api.words import counted
from darkroom_trainer.progress.snapshot import Phase, Progress

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 10.0
"""Lines within a phase are at least this far apart."""


class ProgressLog:
    """Writes some of the snapshots that it is given."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase: Phase | None = None
        self._written_s = 0.0

    def progress(self, snapshot: Progress) -> None:
        """Writes a snapshot, if its phase is new or the last line is old."""
        now_s = self._clock()
        if snapshot.phase is self._phase and now_s - self._written_s < INTERVAL_S:
            return
        self._phase, self._written_s = snapshot.phase, now_s
        logger.info("%s", line(snapshot))


def line(snapshot: Progress) -> str:
    """A snapshot as a person reads it."""
    if snapshot.phase is not Phase.TRAINING:
        share = f": {snapshot.done} of {snapshot.total}" if snapshot.total else ""
        return f"{snapshot.phase}{share}"
    words = [f"{snapshot.phase}: step {snapshot.step} of {snapshot.max_steps}"]
    if snapshot.losses is not None:
        words.append(f"loss {snapshot.losses.total:.4g}")
    if snapshot.skipped_steps:
        words.append(f"{counted(snapshot.skipped_steps, 'step')} skipped")
    if snapshot.images_per_second is not None:
        words.append(f"{snapshot.images_per_second:.3g} images/s")
    if snapshot.eta_seconds is not None:
        words.append(f"{snapshot.eta_seconds:.0f} s left")
    return ", ".join(words)
