"""The moving average of what is trained (EMA): each rank averages its share of the 32-bit masters.

diffusers' `EMAModel` does the sums: after n steps the average keeps min(decay, (1 + n) / (10 + n)) of itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers.training_utils import EMAModel
from torch import Tensor


class WeightAverage:
    """The average of a DeepSpeed engine's weights over the optimizer steps that changed them."""

    def __init__(self, engine: Any, decay: float) -> None:
        self._engine = engine
        self._ema = EMAModel(fp32_masters(engine), decay=decay, foreach=True)

    def update(self) -> None:
        """After an optimizer step; one that FP16 skipped counts for nothing."""
        if self._engine.was_step_applied():
            self._ema.step(fp32_masters(self._engine))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the engine's weights are the averages, those of the forward pass too; all ranks call it."""
        masters = fp32_masters(self._engine)
        self._ema.store(masters)
        self._ema.copy_to(masters)
        _refresh_forward_weights(self._engine)
        yield
        self._ema.restore(masters)
        _refresh_forward_weights(self._engine)

    def save(self, folder: Path) -> None:
        """Writes this rank's share; the checkpoint engine notes why it could not."""
        if self._engine.zero_optimization_stage() > 0 or dist.get_rank() == 0:
            self._engine.checkpoint_engine.save(self._ema.state_dict(), str(self._file(folder)))

    def load(self, folder: Path) -> None:
        """Restores this rank's share from a checkpoint that was verified."""
        self._ema.load_state_dict(torch.load(self._file(folder), "cpu", weights_only=True))
        self._ema.to(device=fp32_masters(self._engine)[0].device)

    def _file(self, folder: Path) -> Path:
        """Without ZeRO all ranks have the same average, and one file."""
        share = dist.get_rank() if self._engine.zero_optimization_stage() > 0 else 0
        return folder / f"weight_average_rank_{share}.pt"


def fp32_masters(engine: Any) -> list[Tensor]:
    """The 32-bit weights that the optimizer updates: this rank's share of them with ZeRO, else all."""
    masters = [
        parameter for group in engine.optimizer.param_groups for parameter in group["params"]
    ]
    # ZeRO 3 hands them to the optimizer one by one.
    return masters or engine.optimizer.fp32_partitioned_groups_flat


def _refresh_forward_weights(engine: Any) -> None:
    """Makes the weights of the forward pass those of the masters, as DeepSpeed does at the end of a step."""
    optimizer = engine.optimizer
    match engine.zero_optimization_stage():
        case 1 | 2:
            optimizer.update_lp_params()
        case 3:
            optimizer._partition_all_parameters()
            for group in range(len(optimizer.fp16_groups)):
                optimizer._reassign_or_swap_out_partitioned_parameters(group)
            if optimizer.persistent_parameters:
                optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)
