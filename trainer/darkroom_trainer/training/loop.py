"""The training of one worker, from the base model to the published one, top to bottom.

Knows nothing of Ray: it runs wherever a torch.distributed process group is up. All ranks make the
same calls in the same order; rank 0 alone reports, seals checkpoints and publishes.

Shapes: a micro batch has B latents of (C, H, W); conditions have a row for each of P prompts.
"""

import io
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from darkroom_api.artifact import TrainState
from darkroom_api.integrity import write_atomically
from darkroom_api.job import PersonalizationJobSpec, Precision
from darkroom_api.pictures.buckets import photo_buckets
from darkroom_api.registry import RegistryEntry
from darkroom_api.status import Reason
from darkroom_api.times import format_time, utc_now
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.families.protocols import LoadedBase
from darkroom_trainer.inputs.class_image_store import SHARD_IMAGES, num_shards
from darkroom_trainer.inputs.machine import threads_here
from darkroom_trainer.inputs.photos import PhotoSet, load_photos
from darkroom_trainer.output import checkpoint
from darkroom_trainer.output.checkpoint import Checkpoint
from darkroom_trainer.output.export import export_model
from darkroom_trainer.progress.rank0 import Reporter
from darkroom_trainer.progress.snapshot import Losses, Phase
from darkroom_trainer.status import RunStatus, WorkerResult
from darkroom_trainer.stopping import stop_requested
from darkroom_trainer.training import engine, validation
from darkroom_trainer.training.batch_source import batch_source
from darkroom_trainer.training.batches import BatchSource, samples_of
from darkroom_trainer.training.class_images import make_class_images
from darkroom_trainer.training.collective import (
    any_rank,
    done_by_rank_0,
    first_failure,
    from_rank_0,
    mean_over_ranks,
)
from darkroom_trainer.training.deepspeed_config import FP16_MIN_SCALE
from darkroom_trainer.training.loss import dreambooth_loss, squared_errors
from darkroom_trainer.training.methods import module_in_training
from darkroom_trainer.training.models import load_base, split_state
from darkroom_trainer.training.new_tokens import add_new_tokens
from darkroom_trainer.training.schedule import learning_rates
from darkroom_trainer.worker_task import WorkerTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepStats:
    """One optimizer step, averaged over its micro batches and all ranks."""

    losses: Losses

    grad_norm: float
    """Infinite where FP16 could not hold the gradient: DeepSpeed skips the step and halves the loss scale."""

    learning_rate: float
    """Of the denoiser's network, or of what is trained instead."""

    stop: bool
    """Whether somebody asked to stop."""

    loss_scale: float | None = None
    """FP16's, of the next step."""

    skipped_steps: int | None = None
    """Of all the run's steps with FP16, those that were skipped."""


def run_worker(task: WorkerTask) -> WorkerResult:
    """Trains, checkpoints and publishes; returns early, saved, when somebody asks to stop.

    Raises TrainerError for what the user can mend.
    """
    torch.set_num_threads(task.threads or threads_here())
    training = task.job.spec.training
    buckets = photo_buckets(training, task.base.side_step)
    photos = load_photos(task.photos_folder, training.resolution, buckets)
    task = _at_newest_checkpoint(task, photos)
    with Reporter(task, dist.get_rank()) as reporter:
        return _train(task, photos, reporter)


def _train(task: WorkerTask, photos: PhotoSet, reporter: Reporter) -> WorkerResult:
    spec, run_folder = task.job.spec, task.run_folder
    device = torch.device("cuda" if spec.scale.gpus_per_worker else "cpu")
    if _stopped(task):
        return _interrupted(reporter, task.first_step)

    # 1. The base model makes the missing class images, before it is trained.
    base = load_base(task.base.folder, device)
    add_new_tokens(base, spec)
    if not _complete_prior(task, base, reporter):
        return _interrupted(reporter, task.first_step)

    # 2. All pictures become latents, once.
    reporter.enter(Phase.CACHING)
    source = batch_source(task, base, photos)

    # 3. One engine for all that is trained, at the step of the checkpoint.
    ds_engine = engine.start_engine(module_in_training(base, spec), spec)
    if task.resume_from is not None:
        engine.load_engine(ds_engine, task.resume_from.folder)
    step: int = ds_engine.global_steps
    if _stopped(task):  # there is nothing that the checkpoint lacks
        return _interrupted(reporter, step)

    # 4. Steps, each a function of the weights and its number.
    failure = None
    reporter.enter(Phase.TRAINING, total=spec.training.max_steps)
    while step < spec.training.max_steps:
        stats = _train_step(ds_engine, source, spec, step, run_folder)
        step += 1
        reporter.step(
            step,
            stats.losses,
            grad_norm=stats.grad_norm,
            learning_rate=stats.learning_rate,
            loss_scale=stats.loss_scale,
            skipped_steps=stats.skipped_steps,
        )
        _refuse_nan(step, stats, spec.scale.precision)
        if validation.is_due(spec, step):
            _draw_grid(task, base, ds_engine, step, reporter)
        # After the grid: a checkpoint of this step says that its grid is there, too.
        if stats.stop or step % spec.checkpoint.every_steps == 0 or step == spec.training.max_steps:
            failure = _save_checkpoint(task, ds_engine, _train_state(task, photos, step), reporter)
        if stats.stop:
            _refuse_unsaved(step, failure)
            return _interrupted(reporter, step)

    # 5. The whole weights become the published model, unless a later attempt has more time for it.
    if failure is None and _stopped(task):
        return _interrupted(reporter, step)
    reporter.enter(Phase.EXPORTING)
    entry = _publish(task, ds_engine, step)
    reporter.close(Phase.FINISHED)
    return WorkerResult(RunStatus.FINISHED, step, entry.digest)


def _at_newest_checkpoint(task: WorkerTask, photos: PhotoSet) -> WorkerTask:
    """The task from the newest checkpoint on: a run that starts its workers again may have saved since."""
    spec = task.job.spec

    def look() -> Checkpoint | None:
        found, warnings = checkpoint.newest_checkpoint(
            task.run_folder, task.job.metadata, verified=task.resume_from
        )
        for warning in warnings:
            logger.warning("%s", warning)
        if found is not None:
            checkpoint.refuse_other_run(found, spec, task.inputs_digest(photos))
        return found

    return replace(task, resume_from=done_by_rank_0(look))


def _stopped(task: WorkerTask) -> bool:
    return any_rank(stop_requested(task.run_folder))


def _interrupted(reporter: Reporter, step: int) -> WorkerResult:
    reporter.close(Phase.INTERRUPTED)
    return WorkerResult(RunStatus.INTERRUPTED, step)


def _train_step(
    ds_engine: engine.Engine,
    source: BatchSource,
    spec: PersonalizationJobSpec,
    step: int,
    run_folder: Path,
) -> StepStats:
    """One optimizer step over this rank's micro batches (DreamBooth, section 3.2)."""
    training, world_size = spec.training, dist.get_world_size()
    dtype = engine.DTYPES[spec.scale.precision]
    prior_weight = float(spec.prior_preservation.weight)
    micro_batches = samples_of(
        dist.get_rank(),
        world_size,
        training.batch_size_per_worker,
        training.gradient_accumulation_steps,
    )
    rates = learning_rates(training, step)
    engine.set_learning_rates(ds_engine, rates)
    sums = torch.zeros(3)
    for samples in micro_batches:
        # 1. Instance and class images at random noise levels, one batch.
        batch = source.draw(step, samples)
        # 2. Forward: what does the denoiser make of them, given their prompts?
        predictions = [
            ds_engine(one.noisy.to(dtype), one.timesteps, batch.prompts, one.prompt_rows, one.crops)
            for one in batch.passes
        ]
        # 3. Instance loss + lambda x prior loss.
        errors = torch.cat(
            [
                squared_errors(prediction, one.target)
                for prediction, one in zip(predictions, batch.passes, strict=True)
            ]
        )
        terms = dreambooth_loss(errors, batch.num_instance, prior_weight, batch.weights)
        # 4. Backward; DeepSpeed divides by the number of micro batches and reduces over ranks.
        ds_engine.backward(terms.total)
        # 5. Clip and update, after the last micro batch only.
        ds_engine.step()
        sums += torch.stack([terms.total, terms.instance, terms.prior]).detach().cpu()
    engine.update_average(ds_engine)
    # 6. Ranks average what they saw, and agree on whether to go on.
    *losses, stop = mean_over_ranks(
        [*(sums / len(micro_batches)).tolist(), float(stop_requested(run_folder))],
        errors.device,
    )
    total, instance, prior = losses
    loss_scale = engine.loss_scale(ds_engine)
    return StepStats(
        losses=Losses(
            total=total,
            instance=instance,
            prior=prior if source.has_prior else None,
        ),
        grad_norm=engine.grad_norm(ds_engine),
        learning_rate=getattr(rates, ds_engine.rate_names[0]),
        stop=stop > 0,
        loss_scale=loss_scale,
        skipped_steps=None if loss_scale is None else ds_engine.skipped_steps,
    )


def _refuse_nan(step: int, stats: StepStats, precision: Precision) -> None:
    """Ends a run that diverged before its weights are saved; the same on every rank."""
    values = {"loss": stats.losses.total}
    if precision is not Precision.FP16 or stats.loss_scale == FP16_MIN_SCALE:
        values["gradient's norm"] = stats.grad_norm
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainerError(
                Reason.LOSS_NOT_FINITE,
                f"spec.training.learningRate: the {name} of step {step} is {value}",
                "lower it; the last checkpoint is from before",
            )


def _refuse_unsaved(step: int, failure: str | None) -> None:
    if failure is not None:
        raise TrainerError(
            Reason.CHECKPOINT_FAILED,
            f"the run was told to stop and step {step} could not be saved: {failure}",
            "mend that and run it again: it continues from the checkpoint before",
        )


def _complete_prior(task: WorkerTask, base: LoadedBase, reporter: Reporter) -> bool:
    """Makes this rank's share of the missing class images; False when told to stop before the end."""
    store = task.class_images
    if store is None:
        return True
    num_images = task.job.spec.prior_preservation.num_images
    shards: list[int] = from_rank_0(store.missing(num_images))
    reporter.reuse_class_images((num_shards(num_images) - len(shards)) * SHARD_IMAGES)
    reporter.enter(Phase.CLASS_IMAGES, total=len(shards) * SHARD_IMAGES)

    def advance() -> None:
        reporter.advance(sum(map(store.has, shards)) * SHARD_IMAGES)

    make_class_images(
        store,
        base,
        shards[dist.get_rank() :: dist.get_world_size()],
        should_stop=lambda: stop_requested(task.run_folder),
        on_shard=advance,
    )
    stopped = _stopped(task)
    advance()  # by now the other ranks have made theirs
    return not stopped


def _train_state(task: WorkerTask, photos: PhotoSet, step: int) -> TrainState:
    spec = task.job.spec
    return TrainState(
        step=step,
        seed=spec.training.seed,
        world_size=dist.get_world_size(),
        zero_stage=spec.scale.zero_stage,
        spec_digest=checkpoint.numerics_digest(spec),
        inputs_digest=task.inputs_digest(photos),
    )


def _draw_grid(
    task: WorkerTask, base: LoadedBase, ds_engine: engine.Engine, step: int, reporter: Reporter
) -> None:
    spec, path = task.job.spec, validation.grid_path(task.run_folder, step)
    reporter.enter(Phase.VALIDATING)
    with engine.averaged(ds_engine):
        grid = validation.draw_grid(
            base, ds_engine.module, spec, engine.DTYPES[spec.scale.precision]
        )
    if dist.get_rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        grid.save(content, format="PNG", optimize=True)
        write_atomically(path, content.getvalue())
    reporter.enter(Phase.TRAINING, total=spec.training.max_steps)


def _save_checkpoint(
    task: WorkerTask, ds_engine: engine.Engine, state: TrainState, reporter: Reporter
) -> str | None:
    """Saves on all ranks; None, or why it failed: the checkpoint before stays, the training goes on."""
    reporter.enter(Phase.CHECKPOINTING)
    owner, keep = task.job.metadata, task.job.spec.checkpoint.keep
    partial = checkpoint.partial_folder(task.run_folder)
    lead = dist.get_rank() == 0

    failure = None
    if lead:
        failure = checkpoint.failure_of(lambda: checkpoint.begin_checkpoint(partial, task.job.spec))
    failure = first_failure(failure)
    if failure is None:
        failure = first_failure(engine.save_engine(ds_engine, partial))
    if failure is None and lead:
        failure = checkpoint.failure_of(
            lambda: checkpoint.finish_checkpoint(partial, owner, state, keep)
        )
    failure = first_failure(failure)
    if failure is not None and lead:
        checkpoint.discard(partial)
    reporter.checkpointed(state.step, failure)
    reporter.enter(Phase.TRAINING, total=task.job.spec.training.max_steps)
    return failure


def _publish(task: WorkerTask, ds_engine: engine.Engine, step: int) -> RegistryEntry:
    """Exports on rank 0."""
    with engine.averaged(ds_engine):
        weights = engine.gather_weights(ds_engine)
    return done_by_rank_0(
        lambda: export_model(
            task.job,
            task.base,
            split_state(weights),
            root=task.registry_root,
            steps=step,
            contact_sheet=validation.newest_grid(task.job.spec, task.run_folder),
            created=format_time(utc_now()),
        )
    )
