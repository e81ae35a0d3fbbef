"""The DeepSpeed engine: started, saved by all ranks, loaded, and gathered into whole weights."""

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Protocol

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from darkroom_api.job import PersonalizationJobSpec, Precision
from darkroom_api.training import Training
from darkroom_sampling.protocols import Conditions
from darkroom_trainer.output.checkpoint import DEEPSPEED_FOLDER, describe_failure
from darkroom_trainer.training.deepspeed_config import effective_stage, engine_config
from darkroom_trainer.training.models import TrainableDenoiser
from darkroom_trainer.training.new_tokens import new_embeddings
from darkroom_trainer.training.optimizers import make_optimizer
from darkroom_trainer.training.schedule import LearningRates, own_rates
from darkroom_trainer.training.weight_average import WeightAverage, fp32_masters

DTYPES: Final = {
    Precision.FP32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}


class Engine(Protocol):
    """What darkroom uses of a DeepSpeed engine; `start_engine` makes one."""

    module: nn.Module
    """What is trained: a `TrainableDenoiser`."""

    optimizer: Any
    """DeepSpeed's wrapper of the optimizer, of a class for each ZeRO stage."""

    global_steps: int
    """Optimizer steps done, those before a restored checkpoint included."""

    skipped_steps: int
    """Those of them that changed nothing, since their gradients overflowed."""

    checkpoint_engine: "RecordingCheckpointEngine"

    rate_names: tuple[str, ...]
    """Which of the `LearningRates` each group of parameters has."""

    average: WeightAverage | None
    """The moving average of the weights, where the job has one."""

    def __call__(self, *inputs: Tensor | Conditions | None) -> Tensor:
        """Forward of the module."""

    def backward(self, loss: Tensor) -> object:
        """Adds the gradients of a micro batch's loss, divided by the number of micro batches."""

    def step(self) -> None:
        """Clips and updates after the last micro batch of an optimizer step; else only counts."""

    def get_global_grad_norm(self) -> Tensor | float:
        """Norm of the accumulated gradient before it was clipped; infinite where it overflowed."""

    def fp16_enabled(self) -> bool:
        """Whether losses are scaled, so that FP16 holds their gradients."""

    def save_checkpoint(
        self, folder: str, *, tag: str, save_latest: bool, exclude_frozen_parameters: bool
    ) -> object:
        """Writes this rank's share; all ranks call it."""

    def load_checkpoint(
        self, folder: str, *, tag: str, load_module_strict: bool
    ) -> tuple[str | None, object]:
        """Restores all of it; the path is None where there was nothing."""


class RecordingCheckpointEngine(TorchCheckpointEngine):  # type: ignore[misc]
    """Writes as DeepSpeed does, but remembers a failure instead of raising it.

    DeepSpeed saves between barriers: a rank that raised in there would leave the others waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failure: str | None = None

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        """Writes one file, or notes why it can't."""
        try:
            with Path(path).open("wb") as file:
                torch.save(state_dict, file)
        except (OSError, RuntimeError) as error:  # torch hides the system's error inside its own
            self.failure = describe_failure(_system_error(error))


def _system_error(error: BaseException) -> OSError:
    """The system's error behind another one; raises that one when there is none."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError):
            return found
        found = found.__context__
    raise error


def start_engine(module: TrainableDenoiser, spec: PersonalizationJobSpec) -> Engine:
    """Wraps a float32 module in a DeepSpeed engine with the job's optimizer.

    Four things of DeepSpeed's are replaced: the checkpoint engine (a full disk must not leave ranks
    waiting), the recovery script (none is copied), the averaging of gradients (off for a single worker)
    and the clipping without ZeRO (so that the norm can be read).
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    groups = _parameter_groups(module, spec.training)
    optimizer = make_optimizer(groups.values(), spec.training)
    made, *_ = deepspeed.initialize(
        model=module, optimizer=optimizer, config=engine_config(spec), dist_init_required=False
    )
    made.rate_names = tuple(groups)
    made.checkpoint_engine = RecordingCheckpointEngine()
    # It would copy scripts beside the state, between barriers and past our checkpoint engine.
    made._copy_recovery_script = lambda save_path: None
    # A single worker has nobody to average with; ZeRO 1 to 3 still gather their gradients there.
    made.enable_backward_allreduce = spec.scale.workers > 1 or effective_stage(spec.scale) > 0
    # Without ZeRO it clips, but keeps the norm to itself.
    made.clip_fp32_gradients = lambda: _clip(made, float(spec.training.max_grad_norm))
    ema = spec.training.ema
    made.average = None if ema is None else WeightAverage(made, float(ema.decay))
    engine: Engine = made
    _assert_fp32_masters(engine)
    return engine


def _parameter_groups(
    module: TrainableDenoiser, training: Training
) -> dict[str, list[nn.Parameter]]:
    """What is trained, by the name of its learning rate: the network's is that of all without one of their own."""
    own = own_rates(training)
    of_tokens = {id(parameter) for parameter in new_embeddings(module)}
    groups: dict[str, list[nn.Parameter]] = {}
    if network := _trained(module.network):
        groups["unet"] = network
    for encoder in module.encoders.values():
        for parameter in _trained(encoder):
            name = "new_tokens" if id(parameter) in of_tokens else "text_encoder"
            groups.setdefault(name if name in own else "unet", []).append(parameter)
    return groups


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def set_learning_rates(engine: Engine, rates: LearningRates) -> None:
    """Before a step: the rates of the groups that `start_engine` made."""
    # ZeRO hands on the optimizer's groups.
    for group, name in zip(engine.optimizer.param_groups, engine.rate_names, strict=True):
        group["lr"] = getattr(rates, name)


def _clip(engine: Any, max_norm: float) -> None:
    engine._global_grad_norm = clip_grad_norm_(engine.module.parameters(), max_norm)


def _assert_fp32_masters(engine: Engine) -> None:
    masters = fp32_masters(engine)
    assert masters, "the optimizer trains nothing"
    assert all(master.dtype == torch.float32 for master in masters), (
        "weights trained in 16 bits lose small updates"
    )


def save_engine(engine: Engine, folder: Path) -> str | None:
    """Writes this rank's share of the state of what is trained; all ranks call it. None, or why it failed."""
    engine.checkpoint_engine.failure = None
    engine.save_checkpoint(
        str(folder), tag=DEEPSPEED_FOLDER, save_latest=False, exclude_frozen_parameters=True
    )
    if engine.average is not None:
        engine.average.save(folder)
    return engine.checkpoint_engine.failure


def load_engine(engine: Engine, folder: Path) -> None:
    """Restores the state of a checkpoint that was verified: DeepSpeed's files are pickles."""
    whole = all(parameter.requires_grad for parameter in engine.module.parameters())
    loaded, _ = engine.load_checkpoint(str(folder), tag=DEEPSPEED_FOLDER, load_module_strict=whole)
    assert loaded is not None, f"{folder} verified, but DeepSpeed found nothing in it"
    if engine.average is not None:
        engine.average.load(folder)


def update_average(engine: Engine) -> None:
    """After an optimizer step: the average moves on, where the job has one."""
    if engine.average is not None:
        engine.average.update()


def averaged(engine: Engine) -> AbstractContextManager[None]:
    """Within it the weights are what is drawn and published: the average, where the job has one."""
    return nullcontext() if engine.average is None else engine.average.in_place()


def grad_norm(engine: Engine) -> float:
    """Norm of the accumulated gradient before clipping, after `engine.step()`; not finite if it isn't."""
    return float(engine.get_global_grad_norm())


def loss_scale(engine: Engine) -> float | None:
    """What the next step's losses are multiplied by; None where gradients need no scaling."""
    return float(engine.optimizer.loss_scale) if engine.fp16_enabled() else None


def gather_weights(engine: Engine) -> dict[str, Tensor]:
    """The float32 master weights of what is trained, by name, on the CPU of rank 0; empty elsewhere.

    All ranks call it.
    """
    weights = {}
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        master = safe_get_full_fp32_param(parameter)
        if master is None:  # without ZeRO the parameter is the master
            master = parameter
        assert master.dtype == torch.float32, f"{name} has no 32-bit master"
        if dist.get_rank() == 0:
            weights[name] = master.detach().cpu().clone()
    return weights
