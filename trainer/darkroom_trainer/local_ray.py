"""Ray on this machine for the length of one run: quiet, no dashboard, only the CPUs that are needed."""

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Any, Final, Self

import psutil

from darkroom_api.job import Scale
from darkroom_trainer.checkpoint import FULL_DISK
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.status import RunStatus, WorkerResult
from darkroom_trainer.task import WorkerTask

OBJECT_STORE_BYTES: Final = 128 << 20
"""Ray's shared memory: nothing large goes through it here."""

SPIN_COUNT: Final = "10000"
"""Rounds, some 20 microseconds, that a thread of torch spins before it sleeps: threads that spin for
long starve each other where something else uses the CPUs too. Workers inherit it."""

HEAD_PROCESSES: Final = ("gcs_server", "raylet")
"""Processes without which a local Ray can't go on."""

CONTINUE: Final = "run the same command again: it goes on from the last checkpoint"


def worker_entry(config: dict[str, Any]) -> dict[str, Any]:
    """What Ray Train runs in each worker; the process group is up by then."""
    from darkroom_trainer.loop import run_worker

    return vars(run_worker(WorkerTask.from_config(config)))


class LocalRay:
    """Starts Ray, runs one task on it in the background, and shuts it down."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._head: list[psutil.Process] = []
        self._future: Future[dict[str, Any]] = Future()

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        import ray

        try:
            ray.init(
                address="local",
                num_cpus=self._scale.workers,
                include_dashboard=False,
                configure_logging=True,
                logging_level="error",
                log_to_driver=False,
                object_store_memory=OBJECT_STORE_BYTES,
            )
        except Exception as error:  # Ray has no type for it
            raise TrainerError("RayNotStarted", f"Ray can't start: {error}", CONTINUE) from error
        children = psutil.Process().children()
        self._head = [child for child in children if child.name() in HEAD_PROCESSES]
        return self

    def start(self, task: WorkerTask) -> None:
        """Begins the run; returns at once."""
        threading.Thread(target=self._fit, args=(task,), daemon=True, name="ray-train").start()

    def ended(self, wait_seconds: float) -> bool:
        """Waits a moment; whether the run ended: well, badly, or because Ray's head was killed."""
        done, _ = wait([self._future], timeout=wait_seconds)
        return bool(done) or self._head_is_dead()

    def result(self) -> WorkerResult:
        """How the run ended.

        Raises TrainerError as a worker raised it, or one that says what died.
        """
        if not self._future.done():
            raise TrainerError("RayHeadDied", "Ray's head process was killed", CONTINUE)
        try:
            values = self._future.result()
        except Exception as error:
            raise cause_of(error) from error
        return WorkerResult(**values | {"status": RunStatus(values["status"])})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import ray

        ray.shutdown()
        # Workers outlive a killed head as long as it isn't reaped.
        for process in self._head:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait()

    def _fit(self, task: WorkerTask) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        scale = self._scale
        trainer = TorchTrainer(
            worker_entry,
            train_loop_config=task.to_config(),
            scaling_config=ScalingConfig(
                num_workers=scale.workers, use_gpu=scale.gpus_per_worker > 0
            ),
            run_config=RunConfig(
                name="ray",
                storage_path=str(task.run_folder),
                failure_config=FailureConfig(max_failures=0),
            ),
        )
        try:
            self._future.set_result(trainer.fit().return_value)
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asks for the result
            self._future.set_exception(error)

    def _head_is_dead(self) -> bool:
        return any(
            not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            for process in self._head
        )


def cause_of(error: BaseException) -> TrainerError:
    """What a worker raised, out of the layers that Ray puts around it; or that a worker died."""
    for found in _layers(error):
        if isinstance(found, TrainerError):
            return found
        if isinstance(found, OSError) and found.errno in FULL_DISK:
            return TrainerError(
                "DiskFull", f"the disk is full: {found}", f"free space and {CONTINUE}"
            )
    last = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    if "died" in str(error) or "ActorDied" in type(error).__name__:
        return TrainerError("WorkerDied", f"a training worker died: {last}", CONTINUE)
    return TrainerError("WorkerFailed", f"a training worker failed: {last}", CONTINUE)


def _layers(error: BaseException) -> Iterator[BaseException]:
    """An error, the workers' errors inside it and what caused each of them."""
    yield error
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    inner = [*failures.values(), getattr(error, "cause", None), error.__cause__]
    for next_ in inner:
        if isinstance(next_, BaseException):
            yield from _layers(next_)
