"""The driver: from a job to a published model, on Ray with one process a worker.

`prepare` finds the inputs and refuses what can't work before anything starts; `train` runs it.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from darkroom_api.integrity import IntegrityError
from darkroom_api.job import PersonalizationJob, PersonalizationJobSpec
from darkroom_api.objections import objections, unavailable
from darkroom_api.pictures.buckets import photo_buckets
from darkroom_api.registry import RegistryEntry, load_verified, model_folder
from darkroom_api.run_layout import CLASS_IMAGES, PROGRESS_FILE, run_path
from darkroom_api.times import utc_now
from darkroom_local.load import busy
from darkroom_trainer.driver import disk
from darkroom_trainer.driver.base_check import check_base
from darkroom_trainer.driver.local_ray import LocalRay
from darkroom_trainer.driver.plan import TrainingPlan, make_plan
from darkroom_trainer.driver.published import published_model
from darkroom_trainer.driver.ray_run import CONTINUE, RayRun
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.holding import hold_run, stop_on_signals
from darkroom_trainer.inputs.base_model import find_base
from darkroom_trainer.inputs.class_image_store import SHARD_IMAGES
from darkroom_trainer.inputs.machine import Machine, read_machine
from darkroom_trainer.inputs.photos import load_photos, photo_prompts
from darkroom_trainer.inputs.sources import find_images, find_local
from darkroom_trainer.output import checkpoint
from darkroom_trainer.progress.snapshot import Phase, Progress, read_progress
from darkroom_trainer.status import RunStatus, WorkerResult
from darkroom_trainer.stopping import stop_requested
from darkroom_trainer.training.deepspeed_config import prepare_environment
from darkroom_trainer.worker_task import WorkerTask

POLL_SECONDS: Final = 0.2
"""How often progress is read and Ray is looked after."""

UNTRAINED: Final = (Phase.STARTING, Phase.CLASS_IMAGES, Phase.CACHING)
"""Phases in which a run has done no step yet that its checkpoint lacks."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a job is run."""

    job_folder: Path
    """Folder of the job file; `file:` URIs are relative to it."""

    work_dir: Path
    """Folder of checkpoints, caches and class images."""

    restart: bool = False
    """Forget the checkpoints of an earlier run."""

    accepted: bool = False
    """Whether an operator has accepted the job: a consent that ends later does not end its training."""

    workers_machine: Machine | None = None
    """What all workers have together; None when they run on this machine."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job that can be run: its inputs are found and fit."""

    task: WorkerTask
    plan: TrainingPlan

    resumed_from: int | None
    """Step of the checkpoint that the run continues from."""

    published: str | None
    """Digest of the model that an earlier run of the same job has published already."""

    warnings: tuple[str, ...]
    """The plan's warnings, and checkpoints that can't be used."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    status: RunStatus
    steps: int

    entry: RegistryEntry | None
    """The published model, when finished."""

    resumed_from: int | None

    stop_signal: signal.Signals | None = None
    """What interrupted the run; the same command continues it."""


def run_folder(job: PersonalizationJob, work_dir: Path) -> Path:
    """Folder of a job's checkpoints, validation grids and progress."""
    return _absolute(work_dir) / run_path(job.metadata.namespace, job.metadata.name)


def _absolute(path: Path) -> Path:
    """Without symbolic links, as far as they lead somewhere; what is in their way is found later."""
    return Path(os.path.realpath(path))


def prepare(job: PersonalizationJob, options: RunOptions) -> Prepared:
    """Finds and checks a job's inputs, makes the plan and picks the checkpoint to continue from.

    Raises TrainerError for what can't work: nothing was started or changed then.
    """
    work_dir, folder = _absolute(options.work_dir), run_folder(job, options.work_dir)
    spec, machine = job.spec, options.workers_machine or read_machine()
    _refuse_hopeless(spec, options)
    registry_root = find_local("spec.output.uri", spec.output.uri, options.job_folder)
    disk.refuse_unwritable(disk.targets(job, work_dir, folder, registry_root))
    base = find_base(spec.base_model.uri, options.job_folder, work_dir / disk.DOWNLOADS)
    photos_folder = find_images(spec.subject.images, options.job_folder)
    buckets = photo_buckets(spec.training, base.side_step)
    photos = load_photos(photos_folder, spec.training.resolution, buckets)
    found, torn = checkpoint.newest_checkpoint(folder, job.metadata)
    if options.restart:
        found, torn = None, []
    task = WorkerTask(
        job=job,
        base=base,
        photos_folder=photos_folder,
        run_folder=folder,
        class_images_root=work_dir / CLASS_IMAGES,
        registry_root=registry_root,
        resume_from=found,
        threads=None if options.workers_machine else max(1, machine.cpus // spec.scale.workers),
    )
    if found is not None:
        checkpoint.refuse_other_run(found, spec, task.inputs_digest(photos))
    plan = make_plan(
        job,
        base,
        photos,
        class_images_ready=_class_images_ready(task),
        input_warnings=[
            str(doubt) for doubt in check_base(base, spec, photo_prompts(photos, spec.subject))
        ],
        machine=machine,
        first_step=task.first_step,
        num_checkpoints=0 if options.restart else checkpoint.num_checkpoints(folder),
    )
    disk.refuse_lack_of_room(disk.loads(task, plan, restart=options.restart), disk.volume_at)
    return Prepared(
        task=task,
        plan=plan,
        resumed_from=found.state.step if found is not None else None,
        published=published_model(task, plan),
        warnings=(*plan.warnings, *torn, *_busy(options)),
    )


def _busy(options: RunOptions) -> list[str]:
    """What is worth knowing of this machine; of a cluster's nothing is known."""
    said = busy() if options.workers_machine is None else None
    return [] if said is None else [f"{said}: training takes longer than planned"]


def _refuse_hopeless(spec: PersonalizationJobSpec, options: RunOptions) -> None:
    found = unavailable(spec) if options.accepted else objections(spec, utc_now())
    if found:
        problem = found[0].problem
        raise TrainerError(found[0].reason, f"{problem.field}: {problem.message}", problem.fix)


def _class_images_ready(task: WorkerTask) -> int:
    store = task.class_images
    if store is None:
        return 0
    wanted = task.job.spec.prior_preservation.num_images
    return max(0, wanted - SHARD_IMAGES * len(store.missing(wanted)))


def train(
    job: PersonalizationJob,
    options: RunOptions,
    on_progress: Callable[[Progress], None],
    on_prepared: Callable[[Prepared], None] = lambda prepared: None,
) -> TrainResult:
    """Runs a job to its end, or until a signal (SIGINT, SIGTERM, SIGHUP, in the main thread) stops it, saved.

    `on_prepared` is called before anything starts, `on_progress` with each new snapshot.

    Raises TrainerError when the job can't work, or when Ray or a worker died; the last checkpoint
    is intact then, and the same call continues from it.
    """
    prepare_environment(use_gpu=job.spec.scale.gpus_per_worker > 0)
    prepared = prepare(job, options)
    on_prepared(prepared)
    with hold_run(prepared.task.run_folder):
        if options.restart:
            checkpoint.discard_all(prepared.task.run_folder)
        try:
            return run_prepared(prepared, LocalRay(job.spec.scale), on_progress)
        except TrainerError as error:
            raise _with_true_advice(error, prepared.task) from error.__cause__


def _with_true_advice(error: TrainerError, task: WorkerTask) -> TrainerError:
    """The error, whose fix says besides what the same command would continue from."""
    found, _ = checkpoint.newest_checkpoint(task.run_folder, task.job.metadata)
    rest = (
        "nothing was saved yet" if found is None else f"it continues from step {found.state.step}"
    )
    return TrainerError(
        error.reason, error.message, error.fix.replace(CONTINUE, f"{CONTINUE}: {rest}")
    )


def run_prepared(
    prepared: Prepared,
    ray_run: RayRun,
    on_progress: Callable[[Progress], None],
    is_unwanted: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Runs a prepared job on Ray, in a run folder that the caller holds; errors as `train`.

    A run that `is_unwanted` is left at once, and nothing of it is saved. Nothing is started for a job
    whose model an earlier run has published, as long as that is whole.
    """
    task = prepared.task
    earlier = _published(task, prepared.published)
    if earlier is not None and _is_whole(earlier):
        return TrainResult(
            status=RunStatus.FINISHED,
            steps=prepared.plan.steps,
            entry=earlier,
            resumed_from=prepared.resumed_from,
        )
    (task.run_folder / PROGRESS_FILE).unlink(missing_ok=True)
    with stop_on_signals(task.run_folder) as received, ray_run:
        if not stop_requested(task.run_folder):  # it may have come while Ray started
            ray_run.start(task)
        result = _watch(ray_run, task, on_progress, is_unwanted)
    interrupted = result.status is RunStatus.INTERRUPTED and received
    return TrainResult(
        status=result.status,
        steps=result.step,
        entry=_published(task, result.model_digest),
        resumed_from=prepared.resumed_from,
        stop_signal=received[0] if interrupted else None,
    )


def _published(task: WorkerTask, digest: str | None) -> RegistryEntry | None:
    if digest is None:
        return None
    owner = task.job.metadata
    folder = model_folder(task.registry_root, owner.namespace, owner.name) / digest
    return RegistryEntry(owner.namespace, owner.name, digest, folder)


def _is_whole(entry: RegistryEntry) -> bool:
    try:
        load_verified(entry)
    except IntegrityError:
        return False
    return True


def _watch(
    ray_run: RayRun,
    task: WorkerTask,
    on_progress: Callable[[Progress], None],
    is_unwanted: Callable[[], bool],
) -> WorkerResult:
    """Hands on each new snapshot until the run ends, or can be left as it is.

    Workers that train save when they are asked to stop. Any others are left to Ray, which ends them
    with the driver: they may be loading a model, or wait for room.
    """
    last = None
    while True:
        ended = ray_run.ended(wait_seconds=POLL_SECONDS)
        snapshot = read_progress(task.run_folder / PROGRESS_FILE)
        if snapshot is not None and snapshot != last:
            on_progress(snapshot)
            last = snapshot
        if ended:
            return ray_run.result()
        untrained = last is None or last.phase in UNTRAINED
        if is_unwanted() or (untrained and stop_requested(task.run_folder)):
            step = task.first_step if last is None else last.step
            return WorkerResult(RunStatus.INTERRUPTED, step)
