"""DeepSpeed's configuration from a job's spec, and the environment it needs."""

import os
import sys
from pathlib import Path
from typing import Any, Final

from darkroom_api.job import Offload, PersonalizationJobSpec, Precision, Scale
from darkroom_api.training import Optimizer

BUCKET_ELEMENTS: Final = 50_000_000
"""Gradient elements reduced at once: DeepSpeed's 5e8 would put a whole SD 1.5 in one bucket."""

FP16_INITIAL_SCALE_POWER: Final = 12
"""First fp16 loss scale as a power of two: 2^16 wastes the first steps of a short job on overflows."""

FP16_HYSTERESIS: Final = 1
"""Overflows until the loss scale is halved: with the usual 2 a second step is lost at the same scale, and
with 1 the third step holds gradients of up to 60."""

FP16_SCALE_WINDOW: Final = 100
"""Overflow-free steps before the loss scale doubles; the usual 1000 is a whole job here."""

FP16_MIN_SCALE: Final = 1
"""Least loss scale: DeepSpeed raises an error at the overflow after it."""


def engine_config(spec: PersonalizationJobSpec) -> dict[str, Any]:
    """The `config` of `deepspeed.initialize` with an optimizer of the client's.

    The micro batch counts instance images: class images join them in the same forward pass.
    """
    training, scale = spec.training, spec.scale
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": training.batch_size_per_worker,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "train_batch_size": spec.global_batch_size,
        "gradient_clipping": float(training.max_grad_norm),
        "steps_per_print": sys.maxsize,
        "zero_optimization": _zero_section(effective_stage(scale), scale.offload),
        "bf16": {"enabled": scale.precision is Precision.BF16},
        "fp16": {"enabled": scale.precision is Precision.FP16},
    }
    if scale.precision is Precision.FP16:
        config["fp16"] |= {
            "loss_scale": 0,
            "initial_scale_power": FP16_INITIAL_SCALE_POWER,
            "loss_scale_window": FP16_SCALE_WINDOW,
            "hysteresis": FP16_HYSTERESIS,
            "min_loss_scale": FP16_MIN_SCALE,
        }
    if scale.offload is Offload.CPU:
        # Ours run on the CPU as they are; DeepSpeed's own would have to be compiled.
        config["zero_force_ds_cpu_optimizer"] = False
    if training.optimizer is not Optimizer.ADAMW:
        # DeepSpeed has not tested them with ZeRO: rules refuse what does not work, tests resume the rest.
        config["zero_allow_untested_optimizer"] = True
    return config


def effective_stage(scale: Scale) -> int:
    """The ZeRO stage that runs: the spec's, but at least 1 in 16 bits.

    What DeepSpeed has for 16 bits without ZeRO adds gradients up in 16 bits and hides its fp32 masters.
    """
    return scale.zero_stage if scale.precision is Precision.FP32 else max(1, scale.zero_stage)


def _zero_section(stage: int, offload: Offload) -> dict[str, Any]:
    section: dict[str, Any] = {"stage": stage}
    if stage >= 1:
        section |= {
            "reduce_bucket_size": BUCKET_ELEMENTS,
            "allgather_bucket_size": BUCKET_ELEMENTS,
            "overlap_comm": False,
        }
    if stage == 3:
        section |= {"stage3_prefetch_bucket_size": BUCKET_ELEMENTS}
    if offload is Offload.CPU:
        section |= {"offload_optimizer": {"device": "cpu"}}
    return section


def prepare_environment(*, use_gpu: bool) -> None:
    """What DeepSpeed reads from the environment when it is imported; call before importing it."""
    if not use_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    tools = str(Path(sys.executable).parent)  # ninja lives beside python in a virtual environment
    path = os.environ.get("PATH", "")
    if tools not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([tools, path])
