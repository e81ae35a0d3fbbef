"""Works out what a job will do before it does it: steps, batch, class images, memory, time, warnings.

Pure: everything it needs is an argument. `machine.py` reads the machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from darkroom_api.job import Offload, PersonalizationJob, Precision, PriorMode
from darkroom_api.pictures.buckets import Size, kept_share
from darkroom_api.pictures.photos import Quarantined
from darkroom_api.status import Reason
from darkroom_api.training import Method, Optimizer
from darkroom_api.words import counted
from darkroom_trainer.driver import sizes
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.base_model import BaseModel
from darkroom_trainer.inputs.machine import Machine
from darkroom_trainer.inputs.photos import PhotoSet, by_crop
from darkroom_trainer.training.deepspeed_config import effective_stage

STATE_BYTES: Final = {"weights": 2, "gradients": 2, "masters": sizes.MASTER_BYTES}
"""Bytes a parameter in 16-bit training, beside the optimizer's: with AdamW they are 16 together
(ZeRO, arXiv 1910.02054, section 3.1)."""

STATE_BYTES_FP32: Final = {"weights": 4, "gradients": 4, "masters": 0}

PROCESS_BYTES: Final = 1 << 30
"""Memory of a worker before it has a model: the interpreter, torch, diffusers, DeepSpeed."""

FORWARD_FLOP: Final = 0.23
"""FLOP a parameter and latent position in a denoiser's forward pass: 0.803 TFLOP for the 860 M
parameters of Stable Diffusion 1.5 at 64 x 64."""

CPU_FLOPS: Final = 12e9
"""Useful FLOP/s of one core in fp32, as seen on the miniature."""

GPU_FLOPS: Final = 100e12
"""Useful FLOP/s of one data-centre GPU in 16 bits."""

START_SECONDS: Final = 30.0
"""Starting workers, loading, caching and exporting."""


@dataclass(frozen=True, kw_only=True)
class PlannedBucket:
    """Photos that are cropped to one size."""

    size: Size
    photos: tuple[str, ...]

    most_lost: float
    """Largest share that one of them loses, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a run will do; `darkroom train` shows it before it begins."""

    photos: tuple[str, ...]

    captions: Mapping[str, str]
    """Prompts of the photos that have words of their own, by the photo's name."""

    repeats: Mapping[str, int]
    """How often a photo is drawn, where that is not once, by its name."""

    buckets: tuple[PlannedBucket, ...]
    """The photos by their sizes; none where all are cropped to squares."""

    quarantined: tuple[Quarantined, ...]
    """Files that are not used; near-duplicates are among them."""

    steps: int

    steps_left: int
    """How many of them an earlier run has not done."""

    world_size: int

    global_batch_size: int
    """Instance images in one optimizer step; as many class images join them."""

    zero_stage: int
    precision: Precision

    device: str
    """`CPU` or `GPU`."""

    trained_parameters: int
    """Numbers that are trained."""

    class_images: int
    """Class images that the job uses; 0 without prior preservation."""

    class_images_to_make: int
    """How many of them are not in the store yet."""

    class_image_bytes: int
    """Size of those on disk."""

    checkpoint_bytes: int
    """Size of one checkpoint."""

    checkpoints_more: int
    """Most checkpoints that are on disk at once beside those of an earlier run: an old one is removed
    when a new one is complete."""

    model_bytes: int
    """Size of the published model."""

    predicted_peak_memory_bytes: int
    """Largest memory of one worker: of its GPU, or of its process on a CPU."""

    estimated_seconds: float
    """Rough time of what is left of the run, right within a factor of three or so."""

    warnings: tuple[str, ...]
    """What the user should know before it begins."""


def make_plan(
    job: PersonalizationJob,
    base: BaseModel,
    photos: PhotoSet,
    *,
    class_images_ready: int,
    input_warnings: Sequence[str],
    machine: Machine,
    first_step: int = 0,
    num_checkpoints: int = 0,
) -> TrainingPlan:
    """The plan of a job.

    `class_images_ready` are already in the store; `input_warnings` are those of `check_base`. An earlier
    run has done `first_step` steps and left `num_checkpoints`.

    Raises TrainerError for what this version or this machine can't do.
    """
    _check_possible(job, base, machine)
    spec = job.spec
    wanted = _class_images(job)
    to_make = max(0, wanted - class_images_ready)
    memory_bytes = predict_peak_memory(job, base)
    return TrainingPlan(
        photos=tuple(photo.name for photo in photos.photos),
        captions={
            photo.name: spec.subject.photo_prompt(photo.caption)
            for photo in photos.photos
            if photo.caption is not None
        },
        repeats={photo.name: photo.repeats for photo in photos.photos if photo.repeats > 1},
        buckets=_buckets(photos) if spec.training.aspect_ratio_buckets else (),
        quarantined=(*photos.quarantined, *photos.duplicates),
        steps=spec.training.max_steps,
        steps_left=spec.training.max_steps - first_step,
        world_size=spec.scale.workers,
        global_batch_size=spec.global_batch_size,
        zero_stage=spec.scale.zero_stage,
        precision=spec.scale.precision,
        device="GPU" if spec.scale.gpus_per_worker else "CPU",
        trained_parameters=sizes.trained_parameters(job, base),
        class_images=wanted,
        class_images_to_make=to_make,
        class_image_bytes=sizes.class_image_bytes(job, base, to_make),
        checkpoint_bytes=sizes.checkpoint_bytes(job, base),
        checkpoints_more=_checkpoints_more(job, first_step, num_checkpoints),
        model_bytes=sizes.model_bytes(job, base),
        predicted_peak_memory_bytes=memory_bytes,
        estimated_seconds=estimate_seconds(
            job, base, to_make, machine, steps=spec.training.max_steps - first_step
        ),
        warnings=(
            *_warn_about_inputs(job, base, photos),
            *input_warnings,
            *_warn_about_policy(job),
            *_warn_about_machine(job, memory_bytes, machine),
        ),
    )


def predict_peak_memory(job: PersonalizationJob, base: BaseModel) -> int:
    """Peak memory of one worker in bytes.

    With AdamW 16 bytes a trained parameter, of which ZeRO stage 1 shards the optimizer's part over the world
    size, stage 2 the gradients' too and stage 3 the weights' too; the weights of frozen parts;
    and an estimate for activations. The moving average goes with the optimizer's part. With CPU offload
    that leaves a GPU.
    """
    spec = job.spec
    full = spec.scale.precision is Precision.FP32
    state = STATE_BYTES_FP32 if full else STATE_BYTES
    stage, world = effective_stage(spec.scale), spec.scale.workers
    on_gpu = spec.scale.gpus_per_worker > 0
    per_parameter = state["weights"] / (world if stage >= 3 else 1)
    per_parameter += state["gradients"] / (world if stage >= 2 else 1)
    if not (on_gpu and spec.scale.offload is Offload.CPU):
        per_share = state["masters"] + sizes.MOMENT_BYTES[spec.training.optimizer]
        per_share += sizes.EMA_BYTES if spec.training.ema else 0
        per_parameter += per_share / (world if stage >= 1 else 1)
    frozen = sum(base.num_parameters.values())
    if spec.training.method is Method.FULL:
        frozen -= sizes.trained_parameters(job, base)
        if _has_teacher(job):
            frozen += base.num_parameters[base.family.denoiser]
    images = _images_per_micro_batch(job)
    latents = (spec.training.resolution // base.vae_scale_factor) ** 2
    activations = base.activations * images * latents * state["weights"]
    states = sizes.trained_parameters(job, base) * per_parameter + frozen * state["weights"]
    return int(states + activations + PROCESS_BYTES)


def estimate_seconds(
    job: PersonalizationJob,
    base: BaseModel,
    class_images_to_make: int,
    machine: Machine,
    *,
    steps: int,
) -> float:
    """Rough duration of so many steps in seconds, from the FLOP of its forward and backward passes."""
    spec = job.spec
    latents = (spec.training.resolution // base.vae_scale_factor) ** 2
    forward = FORWARD_FLOP * base.num_parameters[base.family.denoiser] * latents
    micro_batches = spec.training.gradient_accumulation_steps * spec.scale.workers
    images = steps * micro_batches * _images_per_micro_batch(job)
    # A backward pass costs two forward passes: one for the inputs, one for the weights, where they are trained.
    passes = (3.0 if spec.training.method is Method.FULL else 2.0) * images
    passes += images / 2 if _has_teacher(job) else 0
    passes += 2 * spec.prior_preservation.sampling_steps * class_images_to_make  # with guidance
    on_gpu = spec.scale.gpus_per_worker > 0
    speed = GPU_FLOPS * spec.scale.workers if on_gpu else CPU_FLOPS * machine.cpus
    return START_SECONDS + passes * forward / speed


def _checkpoints_more(job: PersonalizationJob, first_step: int, num_checkpoints: int) -> int:
    room = max(0, job.spec.checkpoint.keep - num_checkpoints) + 1
    return min(room, sizes.checkpoints_to_write(job, first_step))


def _buckets(photos: PhotoSet) -> tuple[PlannedBucket, ...]:
    found = []
    for size, places in by_crop(photos).items():
        members = [photos.photos[place] for place in places]
        lost = max(1 - kept_share(photo.size, size) for photo in members)
        names = tuple(photo.name for photo in members)
        found.append(PlannedBucket(size=size, photos=names, most_lost=lost))
    return tuple(found)


def _class_images(job: PersonalizationJob) -> int:
    prior = job.spec.prior_preservation
    return prior.num_images if prior.mode is PriorMode.GENERATED_IMAGES else 0


def _images_per_micro_batch(job: PersonalizationJob) -> int:
    has_prior = job.spec.prior_preservation.enabled
    return job.spec.training.batch_size_per_worker * (2 if has_prior else 1)


def _has_teacher(job: PersonalizationJob) -> bool:
    return job.spec.prior_preservation.mode is PriorMode.FROZEN_TEACHER


def _check_possible(job: PersonalizationJob, base: BaseModel, machine: Machine) -> None:
    spec = job.spec
    if spec.training.resolution % base.side_step:
        raise TrainerError(
            Reason.INVALID_RESOLUTION,
            f"spec.training.resolution: {spec.training.resolution} is not a multiple of"
            f" {base.side_step}, the side of what the base model sees as one piece",
            f"the base model was trained at {base.native_resolution}",
        )
    gpus = spec.scale.workers * spec.scale.gpus_per_worker
    if gpus > machine.gpus:
        raise TrainerError(
            Reason.NOT_ENOUGH_GPUS,
            f"spec.scale: the job needs {counted(gpus, 'GPU')} and this machine has {machine.gpus}",
            "set gpusPerWorker: 0 and precision: FP32 to train on CPUs, or lower workers",
        )
    if spec.training.optimizer is Optimizer.ADAMW_8BIT and not machine.has_bitsandbytes:
        raise TrainerError(
            Reason.NOT_SUPPORTED,
            "spec.training.optimizer: AdamW8bit needs bitsandbytes, which is not installed here",
            "install it beside darkroom (pip install bitsandbytes), or set it to AdamW",
        )


def _warn_about_inputs(
    job: PersonalizationJob,
    base: BaseModel,
    photos: PhotoSet,
) -> list[str]:
    unused = (*photos.quarantined, *photos.duplicates)
    warnings = [f"{bad.name} is not used: it {bad.reason}" for bad in unused]
    warnings += photos.warnings
    resolution = job.spec.training.resolution
    if resolution != base.native_resolution:
        warnings.append(
            f"spec.training.resolution is {resolution}, the base model was trained at"
            f" {base.native_resolution}: pictures may come out worse"
        )
    return warnings


def _warn_about_policy(job: PersonalizationJob) -> list[str]:
    spec = job.spec
    warnings = []
    if spec.checkpoint.every_steps > spec.training.max_steps:
        warnings.append(
            f"spec.checkpoint.everySteps is {spec.checkpoint.every_steps}, more than maxSteps:"
            " a crash loses the whole run"
        )
    rate = float(spec.training.learning_rate)
    if spec.training.optimizer is Optimizer.PRODIGY and rate != 1.0:
        warnings.append(
            f"spec.training.learningRate is {spec.training.learning_rate}: Prodigy finds a rate and"
            " multiplies it by this one; 1.0 is usual"
        )
    if spec.validation is not None and spec.validation.every_steps > spec.training.max_steps:
        warnings.append("spec.validation.everySteps is more than maxSteps: no grid is drawn")
    if spec.training.method is Method.TEXTUAL_INVERSION:
        if spec.prior_preservation.enabled:
            warnings.append(
                "spec.priorPreservation.mode: new tokens change nothing about the class prompt, which"
                " has none of them; Disabled trains the same in less time"
            )
    elif not spec.prior_preservation.enabled:
        warnings.append(
            "spec.priorPreservation.mode is Disabled: every"
            f" {spec.subject.class_noun} may come to look like the subject"
        )
    return warnings


def _warn_about_machine(job: PersonalizationJob, memory_bytes: int, machine: Machine) -> list[str]:
    scale = job.spec.scale
    if scale.gpus_per_worker:
        return []
    warnings = []
    total_bytes = memory_bytes * scale.workers
    if total_bytes > machine.memory_bytes:
        warnings.append(
            f"the workers may need {total_bytes / 2**30:.1f} GiB and"
            f" {machine.memory_bytes / 2**30:.1f} GiB are free: use fewer workers, a smaller"
            " batch or a higher zeroStage"
        )
    if scale.workers > machine.cpus:
        cores = counted(machine.cpus, "CPU core")
        warnings.append(f"{scale.workers} workers share {cores}")
    if scale.precision is Precision.BF16:
        warnings.append("BF16 is slow on CPUs without AMX or AVX512: FP32 is usually faster")
    return warnings
