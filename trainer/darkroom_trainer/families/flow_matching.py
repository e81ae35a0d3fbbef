"""The objective of models that follow a straight path from noise to picture (rectified flow, arXiv 2209.03003)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

SCHEDULER: Final = "FlowMatchEulerDiscreteScheduler"


@dataclass(frozen=True)
class FlowMatching:
    """Noise levels sigma within (0, 1], told as timesteps of `sigma * num_timesteps`."""

    shift: float
    """How far levels are pushed towards noise (arXiv 2403.03206, equation 23); 1 leaves them uniform."""

    num_timesteps: int

    scheduler_config: dict[str, Any]
    """Of the base's own scheduler."""

    def draw_timesteps(self, generators: Sequence[np.random.Generator]) -> Tensor:
        """As `Objective.draw_timesteps`: uniform, then shifted as the scheduler shifts what it samples."""
        uniform = torch.tensor([1 - one.random() for one in generators], dtype=torch.float32)
        sigma = self.shift * uniform / (1 + (self.shift - 1) * uniform)
        return sigma * self.num_timesteps

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """As `Objective.add_noise`."""
        sigma = self._sigma(timesteps).view(-1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """As `Objective.target`: the velocity from picture to noise, the same at all levels."""
        return noise - latents

    def weights(self, timesteps: Tensor, snr_gamma: float) -> Tensor:
        """As `Objective.weights`: those of the picture's errors, which are sigma times the velocity's."""
        sigma = self._sigma(timesteps)
        snr = ((1 - sigma) / sigma).square()
        return snr.clamp(max=snr_gamma) * sigma.square()

    def _sigma(self, timesteps: Tensor) -> Tensor:
        return timesteps / self.num_timesteps


def load_flow(folder: Path, class_name: str) -> FlowMatching:
    """The objective that a scheduler's configuration describes; raises ValueError for another class."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    if class_name != SCHEDULER:
        raise ValueError(f"{class_name} is no {SCHEDULER}")
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, local_files_only=True)
    return FlowMatching(
        shift=float(scheduler.config.shift),
        num_timesteps=int(scheduler.config.num_train_timesteps),
        scheduler_config=dict(scheduler.config),
    )
