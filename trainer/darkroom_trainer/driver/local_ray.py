"""One run on a Ray of its own: started for the run, on this machine, and ended with it."""

import os
from types import TracebackType
from typing import Any, Self

from darkroom_api.job import Scale
from darkroom_api.status import Reason
from darkroom_local.environment import spin_count
from darkroom_local.ray_session import RayNotStartedError, RaySession
from darkroom_trainer.driver.ray_run import CONTINUE, RayRun
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.machine import count_cpus


class LocalRay(RayRun):
    """Starts Ray, runs one task on it, and ends it."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        load, _, _ = os.getloadavg()
        self._session = RaySession(scale.workers, spin_count(scale.workers, count_cpus(), load))

    def __enter__(self) -> Self:
        try:
            self._session.__enter__()
        except RayNotStartedError as error:
            raise TrainerError(
                Reason.RAY_NOT_STARTED, f"Ray can't start: {error}", CONTINUE
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.__exit__(kind, error, traceback)

    def _where_logs_are(self) -> str:
        return f" (Ray's logs: {self._session.logs})"

    def _process_group(self) -> Any:
        from darkroom_trainer.driver.ray_trainer import of_one_machine

        return of_one_machine()

    def _head_is_dead(self) -> bool:
        return self._session.head_is_dead()
