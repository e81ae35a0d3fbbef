"""One run on Ray, whoever started Ray: the workers are placed, started and waited for."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from darkroom_api.job import Placement, Scale
from darkroom_api.status import Reason
from darkroom_local.words import plain
from darkroom_trainer.driver import oom_kills
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.output.checkpoint import FULL_DISK
from darkroom_trainer.status import RunStatus, WorkerResult
from darkroom_trainer.training.deepspeed_config import prepare_environment
from darkroom_trainer.worker_task import WorkerTask

CONTINUE: Final = "run the same command again"
"""What to do about most failures; `run.train` adds what it continues from."""

OUT_OF_MEMORY: Final = "running low on memory"
"""Words of Ray's memory monitor when it has killed a worker; advice about Ray follows them."""

MORE_MEMORY: Final = "raise pods.memory, or lower training.batchSizePerWorker"

DEATHS: Final = ("ActorDiedError", "ActorUnavailableError", "WorkerCrashedError")
"""Ray's errors for a worker process that ended without a word of its own."""

STRATEGIES: Final = MappingProxyType(
    {
        Placement.PACK: "PACK",
        Placement.STRICT_PACK: "STRICT_PACK",
        Placement.SPREAD: "SPREAD",
    }
)
"""Ray's words for how a placement group lies over nodes."""


def worker_entry(config: dict[str, Any]) -> dict[str, Any]:
    """What Ray Train runs in each worker; the process group is up by then."""
    task = WorkerTask.from_config(config)
    _note_start(task)
    # A worker of a cluster was not started by the driver and has nothing of its environment.
    prepare_environment(use_gpu=task.job.spec.scale.gpus_per_worker > 0)
    from darkroom_trainer.training.loop import run_worker

    return vars(run_worker(task))


def _note_start(task: WorkerTask) -> None:
    import ray
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    oom_kills.note_start(task.run_folder, rank, ray.get_runtime_context().get_node_id())


class RayRun:
    """Connects to Ray, runs one task on it in the background, and disconnects."""

    def __init__(self, **init_options: Any) -> None:
        """The options are those of `ray.init`."""
        self._init_options = init_options
        self._future: Future[dict[str, Any]] = Future()
        self._task: WorkerTask | None = None

    def __enter__(self) -> Self:
        # Or a run that is left while it still begins would start another Ray, and go on there.
        os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
        import ray

        try:
            with _handler_kept(signal.SIGTERM):
                ray.init(**self._init_options)
        except (
            SystemExit
        ) as stopped:  # Ray's own answer to SIGTERM, until ours is back in its place
            text = "it was asked to stop while Ray started"
            raise TrainerError(Reason.PREEMPTED, text, CONTINUE) from stopped
        except Exception as error:  # Ray has no type for it
            raise TrainerError(
                Reason.RAY_NOT_STARTED, f"Ray can't start: {error}", CONTINUE
            ) from error
        return self

    def start(self, task: WorkerTask) -> None:
        """Begins the run; returns at once."""
        self._task = task
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
            text = f"Ray's head process was killed{self._where_logs_are()}"
            raise TrainerError(Reason.RAY_HEAD_DIED, text, CONTINUE)
        try:
            values = self._future.result()
        except Exception as error:
            raise self._cause(error) from error
        return WorkerResult(**values | {"status": RunStatus(values["status"])})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import ray

        ray.shutdown()

    def _cause(self, error: Exception) -> TrainerError:
        cause = cause_of(error, self._where_logs_are())
        if cause.reason is not Reason.WORKER_DIED or self._task is None:
            return cause
        workers = self._task.job.spec.scale.workers
        if not oom_kills.nodes_with_oom_kills(self._task.run_folder, workers):
            return cause
        text = "the kernel killed a training worker at its container's memory limit (OOMKilled)"
        return TrainerError(Reason.HOST_OUT_OF_MEMORY, text, MORE_MEMORY)

    def _fit(self, task: WorkerTask) -> None:
        from ray.train import RunConfig

        from darkroom_trainer.driver.ray_trainer import Trainer

        trainer = Trainer(
            worker_entry,
            train_loop_config=task.to_config(),
            backend_config=self._process_group(),
            scaling_config=scaling_config(task.job.spec.scale),
            run_config=RunConfig(
                name="ray",
                storage_path=str(task.run_folder),
                failure_config=no_retries(),
            ),
        )
        try:
            self._future.set_result(trainer.fit().return_value)
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asks for the result
            self._future.set_exception(error)

    def _where_logs_are(self) -> str:
        """An addition to a message about Ray's processes; on a cluster each pod has its own log."""
        return ""

    def _process_group(self) -> Any:
        """How the workers meet."""
        from darkroom_trainer.driver.ray_trainer import ProcessGroup

        return ProcessGroup()

    def _head_is_dead(self) -> bool:
        """On a cluster the driver is on the head and ends with it."""
        return False


@contextmanager
def _handler_kept(number: signal.Signals) -> Iterator[None]:
    """Puts a signal's handler back: ray.init installs its own."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


def running_cluster() -> RayRun:
    """The Ray cluster that this process is on; its workers' logs join the driver's."""
    return RayRun(address="auto", log_to_driver=True)


def no_retries() -> Any:
    """Ray's FailureConfig for a run whose next attempt is somebody else's; it counts preemptions apart."""
    from ray.train import FailureConfig

    return FailureConfig(max_failures=0, max_preemption_failures=0)


def scaling_config(scale: Scale) -> Any:
    """Ray's ScalingConfig: one CPU is one training process, however many cores its pod has."""
    from ray.train import ScalingConfig

    return ScalingConfig(
        num_workers=scale.workers,
        use_gpu=scale.gpus_per_worker > 0,
        placement_strategy=STRATEGIES[scale.placement],
    )


def cause_of(error: BaseException, where: str = "") -> TrainerError:
    """What a worker raised, out of the layers that Ray puts around it; or that a worker died.

    `where` says where its log is, should nothing else be known.
    """
    for found in _layers(error):
        if isinstance(found, TrainerError):
            return found
        if isinstance(found, OSError) and found.errno in FULL_DISK:
            return TrainerError(
                Reason.DISK_FULL, f"the disk is full: {found}", f"free space and {CONTINUE}"
            )
        if getattr(found, "preempted", False) or hasattr(found, "preemption_info"):
            words = str(found).strip().splitlines()[-1]
            return TrainerError(
                Reason.PREEMPTED, f"a worker's node was taken away: {words}", CONTINUE
            )
    lines = plain(error).splitlines()
    starved = [line for line in lines if OUT_OF_MEMORY in line]
    if starved:
        return TrainerError(
            Reason.HOST_OUT_OF_MEMORY, f"Ray killed a worker: {starved[0].strip()}", MORE_MEMORY
        )
    if any(type(found).__name__ in DEATHS for found in _layers(error)) or "died" in str(error):
        return TrainerError(Reason.WORKER_DIED, f"a training worker was killed{where}", CONTINUE)
    return TrainerError(
        Reason.WORKER_FAILED, f"a training worker failed: {lines[-1].strip()}{where}", CONTINUE
    )


def _layers(error: BaseException) -> Iterator[BaseException]:
    """An error, the workers' errors inside it and what caused each of them."""
    yield error
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    named = (getattr(error, name, None) for name in ("cause", "health_check_failure"))
    inner = [*failures.values(), *named, error.__cause__]
    for next_ in inner:
        if isinstance(next_, BaseException):
            yield from _layers(next_)
