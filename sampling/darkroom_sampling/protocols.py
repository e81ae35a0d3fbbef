"""What a diffusion model is made of: three protocols, and the files that a family reads its parts from.

Shapes: B latents of (C, h, w); P prompts; a condition has a row for each prompt or latent.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

Conditions = Mapping[str, Tensor]
"""What a denoiser is told beside the noisy latents, by the family's own names; first axis B or P."""

CROPS: Final = "crops"
"""Name of a condition beside the family's own, (B, 6): height and width of each picture, top and left corner
of what was cut out of it once it was scaled, and height and width of that (arXiv 2307.01952, section 2.2).
Absent where nothing is told: the picture is as large as it is seen."""


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

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, with the begin and end tokens; may be more than `max_tokens`."""
        ...

    def tokens(self, prompts: Sequence[str]) -> Conditions:
        """What `states` takes, (P, …): token ids, padded and cut to the length of the encoders."""
        ...

    def states(self, tokens: Conditions, encoders: Mapping[str, nn.Module]) -> Conditions:
        """What the denoiser takes, (P, …), with gradients; `encoders` are those of now, in training or not."""
        ...


class LatentCodec(Protocol):
    """Pictures as latents and back, with the frozen VAE."""

    @property
    def vae(self) -> Any:
        """A module of diffusers."""
        ...

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
    """The network that predicts, and how it is called."""

    @property
    def component(self) -> str:
        """Its name in the model's folder, such as `unet`; its tensors in checkpoints begin with it."""
        ...

    @property
    def network(self) -> nn.Module:
        """A module of diffusers."""
        ...

    @property
    def patch_size(self) -> int:
        """Cells of a latent along a side of what the network takes as one."""
        ...

    def predict(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, conditions: Conditions
    ) -> Tensor:
        """What a network says of noisy latents (B, C, h, w) at timesteps (B,), each with its conditions.

        `network` is the one of `self`, a copy of it, or that one with adapters.
        """
        ...


class ModelFiles(Protocol):
    """The folder of a model, as a family reads it."""

    @property
    def folder(self) -> Path:
        """Where it is."""
        ...

    @property
    def index(self) -> Mapping[str, Any]:
        """Its model_index.json."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its parts are to be."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are to be in."""
        ...

    def model(self, component: str, cls: Any, *, never_trained: bool = False) -> Any:
        """A component with weights, frozen, in evaluation mode, on the device.

        What no training changes may be in the type that it is stored in.
        """
        ...

    def tokenizer(self, component: str, cls: Any) -> Any:
        """A component without weights."""
        ...


def rows_of(conditions: Conditions, rows: Any) -> Conditions:
    """Some rows of conditions: an index, a list or a tensor of them."""
    return {name: values[rows] for name, values in conditions.items()}


def with_crops(conditions: Conditions, crops: Tensor | None) -> Conditions:
    """Conditions, and the crops of the pictures where there is something to tell of them."""
    return conditions if crops is None else {**conditions, CROPS: crops}
