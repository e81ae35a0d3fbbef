"""The base model before it is trained, whose own predictions keep the class noun's meaning.

A prior without class images: what the teacher says of a noisy photo under the class prompt is what the
model in training has to say of it, too. With an adapter it is the same network without the adapter.
"""

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from darkroom_trainer.training.models import LoadedBase


@dataclass(frozen=True)
class Teacher:
    """A frozen UNet and the one prompt that it is asked with."""

    unet: nn.Module

    states: Tensor
    """Of the class prompt, (1, L, D), by the text encoder before it is trained."""

    @torch.no_grad()
    def predict(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The prediction, (B, C, H, W) in float32, for noisy latents of that shape at timesteps (B,)."""
        states = self.states.expand(len(noisy), -1, -1)
        prediction = self.unet(noisy.to(states.dtype), timesteps, states, return_dict=False)[0]
        return cast(Tensor, prediction).float()


def frozen_teacher(base: LoadedBase, prompt: str, dtype: torch.dtype) -> Teacher:
    """A copy of the base's UNet, made before anything of it is trained, in the precision of the forward pass."""
    unet = copy.deepcopy(base.unet).to(dtype).eval().requires_grad_(False)
    return Teacher(unet, base.prompt_states([prompt]).to(dtype))
