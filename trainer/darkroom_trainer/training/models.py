"""Loads a base model through its family and picks what is trained of it.

Denoiser and text encoders sit in one module, because DeepSpeed allows one engine a process; the VAE
stays outside, where ZeRO can't shard it away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from darkroom_sampling.protocols import (
    Conditioning,
    Conditions,
    Denoiser,
    rows_of,
    with_crops,
)
from darkroom_trainer.families.protocols import LoadedBase, model_of
from darkroom_trainer.inputs.base.layout import (
    MODEL_INDEX,
    find_components,
    find_family,
    read_json,
    weight_files,
)


class TrainableDenoiser(nn.Module):
    """The denoiser's network and, when they are trained too, the text encoders: all that gets gradients.

    Each is a submodule under the name of its component, `unet` and `text_encoder` for instance.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        conditioning: Conditioning,
        network: nn.Module,
        encoders: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self._denoiser = denoiser
        self._conditioning = conditioning
        self._encoder_names = tuple(encoders)
        self.add_module(denoiser.component, network)
        for name, encoder in encoders.items():
            self.add_module(name, encoder)

    @property
    def network(self) -> nn.Module:
        """The denoiser's."""
        return self.get_submodule(self._denoiser.component)

    @property
    def encoders(self) -> Mapping[str, nn.Module]:
        """The text encoders that are trained, by component; empty where they are not."""
        return {name: self.get_submodule(name) for name in self._encoder_names}

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        prompts: Conditions,
        rows: Tensor,
        crops: Tensor | None = None,
    ) -> Tensor:
        """The prediction, (B, C, H, W), for noisy latents of that shape.

        `prompts` holds the distinct prompts, as tokens (P, …) when text encoders are trained and as
        their states (P, …) when not; `rows` (B,) says which of them each latent has. `crops` are as
        `CROPS`.
        """
        encoders = self.encoders
        states = self._conditioning.states(prompts, encoders) if encoders else prompts
        conditions = with_crops(rows_of(states, rows), crops)
        return self._denoiser.predict(self.network, noisy, timesteps, conditions)


@dataclass(frozen=True)
class Files:
    """As `BaseFiles`: a folder that `inspect_base` found fit; safetensors only, nothing downloaded."""

    folder: Path
    index: Mapping[str, Any]
    classes: Mapping[str, str]
    device: torch.device
    dtype: torch.dtype = torch.float32

    def model(self, component: str, cls: Any, *, never_trained: bool = False) -> Any:
        """As `BaseFiles.model`."""
        loaded = cls.from_pretrained(
            self.folder / component,
            variant=weight_files(self.folder, component).variant,
            use_safetensors=True,
            dtype="auto" if never_trained else self.dtype,
            local_files_only=True,
        )
        return loaded.to(self.device).eval().requires_grad_(False)

    def tokenizer(self, component: str, cls: Any) -> Any:
        """As `BaseFiles.tokenizer`."""
        return cls.from_pretrained(self.folder / component, local_files_only=True)


def load_base(folder: Path, device: torch.device) -> LoadedBase:
    """Loads a folder that `inspect_base` found fit."""
    index = read_json(folder, MODEL_INDEX)
    files = Files(folder, index, find_components(folder), device)
    return model_of(find_family(folder)).load(files)


def trainable_denoiser(
    base: LoadedBase, *, train_text_encoder: bool, gradient_checkpointing: bool = False
) -> TrainableDenoiser:
    """The module for the engine, its parameters asserted to be in 32 bits.

    It stays in evaluation mode: dropout, where a base has it, would draw from torch's own generator,
    which no checkpoint restores.
    """
    network = base.denoiser.network
    encoders = base.conditioning.encoders if train_text_encoder else {}
    module = TrainableDenoiser(base.denoiser, base.conditioning, network, encoders)
    module.eval().requires_grad_(True)
    for part in base.conditioning.untrainable:
        part.requires_grad_(False)
    if gradient_checkpointing:
        cast(Any, network).enable_gradient_checkpointing()
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters()), (
        "weights trained in 16 bits lose small updates"
    )
    return module


def split_state(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A module's state dict by component, each with diffusers' names of tensors."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    return parts
