"""How many bytes a run leaves on disk: its checkpoints, its class images and its model. Pure.

The numbers are those of DeepSpeed's files and of our export; a test compares them with a real run's.
"""

from types import MappingProxyType
from typing import Final

from darkroom_api.job import ExportPrecision, PersonalizationJob, Precision
from darkroom_api.training import Method, Optimizer
from darkroom_trainer.driver.additions import added_parameters
from darkroom_trainer.inputs.base_model import BaseModel
from darkroom_trainer.training.deepspeed_config import effective_stage

MASTER_BYTES: Final = 4
"""Bytes a trained parameter for its fp32 master."""

MOMENT_BYTES: Final = MappingProxyType(
    {Optimizer.ADAMW: 8, Optimizer.ADAMW_8BIT: 2, Optimizer.PRODIGY: 16}
)
"""Bytes a trained parameter for what the optimizer keeps of it, in memory and in a checkpoint: two moments;
Prodigy also has where it began and a running sum of its gradients."""

EMA_BYTES: Final = 4
"""Bytes a trained parameter for its moving average, in memory and in a checkpoint."""

FILE_BYTES: Final = 1 << 20
"""What a checkpoint or a model needs beside its numbers: names of tensors, manifest, card, blocks of
the file system. About 1 kB a tensor in each of DeepSpeed's files."""

LATENT_BYTES: Final = 2
"""Class images are kept as 16-bit latents."""


def checkpoint_bytes(job: PersonalizationJob, base: BaseModel) -> int:
    """Size of one checkpoint, over all ranks.

    Without ZeRO the trained weights are their own masters. With it, stages 1 and 2 write the weights
    of the forward pass beside the masters; stage 3 has them in parts, and writes the masters only.
    """
    scale = job.spec.scale
    per_parameter = MASTER_BYTES + MOMENT_BYTES[job.spec.training.optimizer]
    if effective_stage(scale) in (1, 2):
        per_parameter += 4 if scale.precision is Precision.FP32 else 2
    if job.spec.training.ema is not None:
        per_parameter += EMA_BYTES
    return trained_parameters(job, base) * per_parameter + FILE_BYTES


def model_bytes(job: PersonalizationJob, base: BaseModel) -> int:
    """Size of the published model: all weights in the output's format, and what is copied as it is.

    Of adapters and new tokens only they are published; adapters twice where kohya's keys are wanted.
    """
    width = 4 if job.spec.output.precision is ExportPrecision.FP32 else 2
    if job.spec.training.method is not Method.FULL:
        copies = 2 if job.spec.output.kohya_keys else 1
        return added_parameters(job.spec, base) * width * copies + FILE_BYTES
    return sum(base.num_parameters.values()) * width + base.copied_bytes + FILE_BYTES


def class_image_bytes(job: PersonalizationJob, base: BaseModel, to_make: int) -> int:
    """Size of the class images that are still to be made."""
    latents = (job.spec.training.resolution // base.vae_scale_factor) ** 2
    return to_make * base.latent_channels * latents * LATENT_BYTES


def trained_parameters(job: PersonalizationJob, base: BaseModel) -> int:
    """Parameters that get gradients."""
    if job.spec.training.method is not Method.FULL:
        return added_parameters(job.spec, base)
    family = base.family
    encoders = family.encoders if job.spec.training.train_text_encoder else ()
    return sum(base.num_parameters[component] for component in (family.denoiser, *encoders))


def checkpoints_to_write(job: PersonalizationJob, first_step: int) -> int:
    """How many checkpoints a run still writes that begins after `first_step`: the last step is one."""
    steps, every = job.spec.training.max_steps, job.spec.checkpoint.every_steps
    if first_step >= steps:
        return 0
    return steps // every - first_step // every + (1 if steps % every else 0)


def in_words(size_bytes: float) -> str:
    """A size as people read it: `57.0 MiB`, `1.2 GiB`."""
    for unit in ("KiB", "MiB"):
        size_bytes /= 1024
        if size_bytes < 1000:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1024:.1f} GiB"
