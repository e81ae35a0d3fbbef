"""What a family of base models is to the training: four protocols, and a base model behind them.

Shapes: B latents of (C, H, W); P prompts; a condition has a row for each prompt or latent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from darkroom_trainer.families.layout import FamilyLayout

Conditions = Mapping[str, Tensor]
"""What a denoiser is told beside the noisy latents, by the family's own names; first axis B or P."""

CROPS: Final = "crops"
"""Name of a condition beside the family's own, (B, 6): height and width of each picture, top and left corner
of what was cut out of it once it was scaled, and height and width of that (arXiv 2307.01952, section 2.2).
Absent where nothing is told: the picture is as large as it is seen."""


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

    def sampler(self, steps: int) -> Any:
        """A scheduler of diffusers with so many timesteps set, which draws without noise of its own."""
        ...


class Conditioning(Protocol):
    """What text encoders make of prompts."""

    @property
    def encoders(self) -> Mapping[str, nn.Module]:
        """The text encoders by the name of their component, such as `text_encoder`."""
        ...

    @property
    def tokenizers(self) -> Mapping[str, Any]:
        """The tokenizer of each of those, by the encoder's name."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest prompt in tokens, with begin and end tokens."""
        ...

    @property
    def untrainable(self) -> Sequence[nn.Module]:
        """Parts of the encoders that no state depends on: they get no gradients."""
        ...

    def tokens(self, prompts: Sequence[str]) -> Conditions:
        """What `states` takes, (P, …): token ids, padded and cut to the length of the encoders."""
        ...

    def states(self, tokens: Conditions, encoders: Mapping[str, nn.Module]) -> Conditions:
        """What the denoiser takes, (P, …), with gradients; `encoders` are those of now, in training or not."""
        ...


class LatentCodec(Protocol):
    """Pictures as latents and back, with the frozen VAE in float32."""

    @property
    def latent_channels(self) -> int:
        """C of a latent."""
        ...

    @property
    def latent_scale(self) -> int:
        """Pixels along a side of a latent's cell."""
        ...

    @property
    def scaling_factor(self) -> float:
        """The denoiser's latents are `(latents - shift) * scaling_factor`."""
        ...

    @property
    def shift(self) -> float:
        """As `scaling_factor`."""
        ...

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, (B, C, h, w), of pictures (B, 3, H, W) within [-1, 1]."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures, (B, 3, H, W), about within [-1, 1], of the denoiser's latents."""
        ...


class Denoiser(Protocol):
    """The network that is trained, and how it is called."""

    @property
    def component(self) -> str:
        """Its name in the model's folder, such as `unet`; its tensors in checkpoints begin with it."""
        ...

    @property
    def network(self) -> nn.Module:
        """A module of diffusers."""
        ...

    def predict(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, conditions: Conditions
    ) -> Tensor:
        """What a network says of noisy latents (B, C, H, W) at timesteps (B,), each with its conditions.

        `network` is the one of `self`, a copy of it, or that one with adapters.
        """
        ...


@dataclass(frozen=True)
class LoadedBase:
    """A base model on one device, in float32 what is trained; all of it frozen until something of it is trained."""

    objective: Objective
    conditioning: Conditioning
    codec: LatentCodec
    denoiser: Denoiser
    device: torch.device

    @property
    def trainable(self) -> Mapping[str, nn.Module]:
        """All that can be trained, by component: the denoiser's network and the text encoders."""
        return {self.denoiser.component: self.denoiser.network, **self.conditioning.encoders}

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(C, H, W) of the latents of square pictures with that side."""
        side = resolution // self.codec.latent_scale
        return (self.codec.latent_channels, side, side)

    def tokens(self, prompts: Sequence[str]) -> Conditions:
        """Of prompts, (P, …), for a denoiser that trains its text encoders."""
        return {
            name: tokens.to(self.device)
            for name, tokens in self.conditioning.tokens(prompts).items()
        }

    @torch.no_grad()
    def states(self, prompts: Sequence[str], dtype: torch.dtype = torch.float32) -> Conditions:
        """What frozen text encoders make of prompts, (P, …), numbers in that type."""
        states = self.conditioning.states(self.tokens(prompts), self.conditioning.encoders)
        return {
            name: state.to(dtype) if state.is_floating_point() else state
            for name, state in states.items()
        }

    def prompts(
        self, prompts: Sequence[str], dtype: torch.dtype, *, train_text_encoder: bool
    ) -> Conditions:
        """What a `TrainableDenoiser` takes of prompts, (P, …): tokens where it trains text encoders, or states."""
        return self.tokens(prompts) if train_text_encoder else self.states(prompts, dtype)


class BaseFiles(Protocol):
    """The folder of a base model, as a family reads it."""

    @property
    def folder(self) -> Path:
        """Where it is."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its parts are to be."""
        ...

    @property
    def index(self) -> Mapping[str, Any]:
        """Its model_index.json."""
        ...

    @property
    def classes(self) -> Mapping[str, str]:
        """The class of each component, by its name."""
        ...

    def model(self, component: str, cls: Any, *, as_stored: bool = False) -> Any:
        """A component with weights: in float32, or as it is stored; frozen, in evaluation mode, on the device."""
        ...

    def tokenizer(self, component: str, cls: Any) -> Any:
        """A component without weights."""
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


def rows_of(conditions: Conditions, rows: Any) -> Conditions:
    """Some rows of conditions: an index, a list or a tensor of them."""
    return {name: values[rows] for name, values in conditions.items()}


def with_crops(conditions: Conditions, crops: Tensor | None) -> Conditions:
    """Conditions, and the crops of the pictures where there is something to tell of them."""
    return conditions if crops is None else {**conditions, CROPS: crops}
