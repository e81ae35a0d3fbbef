"""Ray on this machine for the length of one run: quiet, no dashboard, only the CPUs that are needed."""

import contextlib
import os
from types import TracebackType
from typing import Final, Self

import psutil

from darkroom_api.job import Scale
from darkroom_trainer.driver.ray_run import RayRun

OBJECT_STORE_BYTES: Final = 128 << 20
"""Ray's shared memory: nothing large goes through it here."""

SPIN_COUNT: Final = "10000"
"""Rounds, some 20 microseconds, that a thread of torch spins before it sleeps: threads that spin for
long starve each other where something else uses the CPUs too. Workers inherit it."""

HEAD_PROCESSES: Final = ("gcs_server", "raylet")
"""Processes without which a local Ray can't go on."""


class LocalRay(RayRun):
    """Starts Ray, runs one task on it, and shuts it down."""

    def __init__(self, scale: Scale) -> None:
        super().__init__(
            address="local",
            num_cpus=scale.workers,
            include_dashboard=False,
            configure_logging=True,
            logging_level="error",
            log_to_driver=False,
            object_store_memory=OBJECT_STORE_BYTES,
        )
        self._head: list[psutil.Process] = []

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        super().__enter__()
        children = psutil.Process().children()
        self._head = [child for child in children if child.name() in HEAD_PROCESSES]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        # Workers outlive a killed head as long as it isn't reaped.
        for process in self._head:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait()

    def _head_is_dead(self) -> bool:
        return any(
            not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            for process in self._head
        )
