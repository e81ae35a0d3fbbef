"""One attempt at a job on a Ray cluster, from its start to its last word, as the operator expects it.

The exit status says how it ended, and the last line of the log of one that did not publish says why:
`darkroom: <Reason>: <message>`.
"""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from darkroom_api.integrity import write_atomically
from darkroom_api.job import PersonalizationJob, Scale
from darkroom_api.names import (
    EXIT_INTERRUPTED,
    FAILURE_PREFIX,
    JOB_UID_ENV,
    WORK_DIR,
    WORK_DIR_ENV,
)
from darkroom_api.report import Failure
from darkroom_api.run_layout import OWNER_FILE
from darkroom_api.status import Reason
from darkroom_trainer.driver.log_lines import ProgressLog
from darkroom_trainer.driver.operator_client import ProgressClient
from darkroom_trainer.driver.operator_reports import Reports
from darkroom_trainer.driver.ray_run import cause_of, running_cluster
from darkroom_trainer.driver.run import (
    POLL_SECONDS,
    Prepared,
    RunOptions,
    TrainResult,
    prepare,
    run_folder,
    run_prepared,
)
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.holding import hold_run, stop_on_signals
from darkroom_trainer.inputs.machine import Machine
from darkroom_trainer.output import checkpoint
from darkroom_trainer.progress.snapshot import Progress
from darkroom_trainer.status import RunStatus
from darkroom_trainer.stopping import stop_requested
from darkroom_trainer.training.deepspeed_config import prepare_environment

logger = logging.getLogger(__name__)

EXIT_FAILED: Final = 1

MESSAGE_LENGTH: Final = 2048
"""Most characters of a report's message."""


OTHER_RUN: Final = (Reason.SPEC_CHANGED, Reason.WORLD_SIZE_CHANGED, Reason.INPUTS_CHANGED)
"""What is said of checkpoints that belong to another training."""

UNKNOWN_BYTES: Final = 1 << 62
"""Memory of pods that are not this one: KubeRay has started them with what the job asks for."""


def run_attempt(job: PersonalizationJob, job_folder: Path) -> int:
    """Trains and publishes; returns the exit status."""
    options = RunOptions(
        job_folder=job_folder,
        work_dir=Path(os.environ.get(WORK_DIR_ENV, WORK_DIR)),
        accepted=True,
        workers_machine=pods_of(job.spec.scale),
    )
    folder = run_folder(job, options.work_dir)
    reports = Reports(job, folder, ProgressClient.from_environment())
    with ExitStack() as held:  # to the last report: a pod that is to go waits for it
        try:
            held.enter_context(hold_run(folder))
            held.enter_context(stop_on_signals(folder))
            result = _train(job, options, reports)
        except Exception as error:  # noqa: BLE001 - the process ends here
            failure, status = _failure_of(error), EXIT_FAILED
            reports.failed(failure)
        else:
            if result.entry is not None:
                reports.published(result.entry)
                return 0
            failure, status = _interruption(result, reports), EXIT_INTERRUPTED
            reports.interrupted(failure)
    say_why(failure)
    return status


def pods_of(scale: Scale) -> Machine:
    """What an attempt's workers have together, as far as the plan asks: a training process each."""
    return Machine(
        cpus=scale.workers,
        memory_bytes=UNKNOWN_BYTES,
        gpus=scale.workers * scale.gpus_per_worker,
    )


def say_why(failure: Failure) -> None:
    """Writes the last line of the log, as one line."""
    print(f"{FAILURE_PREFIX}{failure.reason}: {' '.join(failure.message.split())}", flush=True)


def _train(job: PersonalizationJob, options: RunOptions, reports: Reports) -> TrainResult:
    prepare_environment(use_gpu=job.spec.scale.gpus_per_worker > 0)
    prepared = _unless_stopped(run_folder(job, options.work_dir), lambda: _prepare(job, options))
    if prepared is None:
        step = reports.step
        return TrainResult(status=RunStatus.INTERRUPTED, steps=step, entry=None, resumed_from=step)
    for warning in prepared.warnings:
        logger.warning("%s", warning)
    reports.prepared(prepared)
    log = ProgressLog()

    def tell(snapshot: Progress) -> None:
        log.progress(snapshot)
        reports.progress(snapshot)

    return run_prepared(prepared, running_cluster(), tell, is_unwanted=reports.unwanted)


def _interruption(result: TrainResult, reports: Reports) -> Failure:
    """Why a run ended that was asked to stop, and what it saved."""
    if reports.unwanted():
        text = f"its job is being deleted with its model: nothing was saved at step {result.steps}"
        return Failure(reason=Reason.DELETING, message=text)
    if result.steps == 0:
        text = "it was asked to stop before its first step, with nothing to save"
    elif result.steps == result.resumed_from:
        text = f"it was asked to stop with nothing new to save; it had saved at step {result.steps}"
    else:
        text = f"it was asked to stop and saved at step {result.steps}"
    return Failure(reason=Reason.PREEMPTED, message=text)


def _unless_stopped(folder: Path, prepare: Callable[[], Prepared]) -> Prepared | None:
    """What a function returns, or None as soon as somebody asks to stop: it may be in a long download."""
    future: Future[Prepared] = Future()

    def work() -> None:
        try:
            future.set_result(prepare())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            future.set_exception(error)

    threading.Thread(target=work, daemon=True, name="prepare").start()
    while not wait([future], timeout=POLL_SECONDS).done:
        if stop_requested(folder):
            return None
    return future.result()


def _prepare(job: PersonalizationJob, options: RunOptions) -> Prepared:
    """Prepares the run, afresh where a job of the same name has left the checkpoints of another training.

    What fits is gone on from: a job that was deleted by mistake has lost nothing.
    """
    folder = run_folder(job, options.work_dir)
    try:
        prepared = prepare(job, options)
    except TrainerError as error:
        if error.reason not in OTHER_RUN or not _is_of_another(folder):
            raise
        logger.warning("begins afresh, an earlier job of this name was another: %s", error.message)
        checkpoint.discard_all(folder)
        prepared = prepare(job, replace(options, restart=True))
    if uid := os.environ.get(JOB_UID_ENV):
        write_atomically(folder / OWNER_FILE, uid.encode("ascii"))
    return prepared


def _is_of_another(folder: Path) -> bool:
    """Whether another object of the job's name has used its run folder last."""
    uid, owner = os.environ.get(JOB_UID_ENV), folder / OWNER_FILE
    return uid is not None and owner.is_file() and owner.read_text(encoding="ascii") != uid


def _failure_of(error: Exception) -> Failure:
    """Our word for an error; what is not an error of ours leaves its trace in the log."""
    cause = cause_of(error)
    if cause is not error:
        logger.error("the run failed", exc_info=error)
    return Failure(reason=cause.reason, message=cause.message[:MESSAGE_LENGTH])
