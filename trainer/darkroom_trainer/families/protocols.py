"""What a family of base models is to the training: an objective, and a base model that is trained for it.

Shapes: B latents of (C, H, W); P prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from darkroom_sampling.model import DiffusionModel
from darkroom_sampling.protocols import Conditions, ModelFiles
from darkroom_trainer.families.layout import FamilyLayout


class Objective(Protocol):
    """Which noise is added, and what the denoiser is to say of it."""

    def draw_timesteps(self, generators: Sequence[np.random.Generator]) -> Tensor:
        """A noise level for each generator, (B,), as the scheduler of the family counts them."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The latents at their timesteps, (B, C, H, W)."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should say of them, (B, C, H, W)."""
        ...

    def weights(self, timesteps: Tensor, snr_gamma: float) -> Tensor:
        """Min-SNR weights of the squared errors, (B,)."""
        ...

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """Of the base's own scheduler, with the defaults of its class: what is drawn has these noise levels."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoadedBase(DiffusionModel):
    """A base model on one device, in float32 what is trained; all of it frozen until something of it is trained."""

    objective: Objective

    @property
    def trainable(self) -> Mapping[str, nn.Module]:
        """All that can be trained, by component: the denoiser's network and the text encoders."""
        return {self.denoiser.component: self.denoiser.network, **self.conditioning.encoders}

    def prompts(
        self, prompts: Sequence[str], dtype: torch.dtype, *, train_text_encoder: bool
    ) -> Conditions:
        """What a `TrainableDenoiser` takes of prompts, (P, …): tokens where it trains text encoders, or states."""
        return self.tokens(prompts) if train_text_encoder else self.states(prompts, dtype)


def with_objective(model: DiffusionModel, objective: Objective) -> LoadedBase:
    """A model and what it is trained for, whose noise levels it is drawn with, too."""
    parts = {field.name: getattr(model, field.name) for field in fields(model)}
    return LoadedBase(
        **parts | {"scheduler_config": objective.scheduler_config}, objective=objective
    )


class BaseFiles(ModelFiles, Protocol):
    """The folder of a base model, as a family reads it; weights in float32, or as they are stored."""

    @property
    def classes(self) -> Mapping[str, str]:
        """The class of each component, by its name."""
        ...


class FamilyModel(Protocol):
    """What the `model.py` of a family's folder has."""

    def load(self, files: BaseFiles) -> LoadedBase:
        """The base model of a folder that was found fit."""
        ...

    def check_scheduler(self, folder: Path, class_name: str) -> None:
        """Raises ValueError for a scheduler's folder that gives no noise levels."""
        ...


def model_of(family: FamilyLayout) -> FamilyModel:
    """The half of a family that needs torch."""
    return cast(FamilyModel, import_module(f"darkroom_trainer.families.{family.name}.model"))
