"""The base model before it is trained, whose own predictions keep the class noun's meaning.

A prior without class images: what the teacher says of a noisy photo under the class prompt is what the
model in training has to say of it, too. With adapters it is the same network without them.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darkroom_sampling.protocols import Conditions, Denoiser, with_crops
from darkroom_trainer.families.protocols import LoadedBase
from darkroom_trainer.training.adapters import without_adapters


@dataclass(frozen=True)
class Teacher:
    """A frozen network and the one prompt that it is asked with."""

    denoiser: Denoiser
    network: nn.Module

    dtype: torch.dtype
    """Of the network and of what it is given."""

    states: Conditions
    """Of the class prompt, (1, …), by the text encoders before they are trained."""

    @torch.no_grad()
    def predict(self, noisy: Tensor, timesteps: Tensor, crops: Tensor | None = None) -> Tensor:
        """The prediction, (B, C, H, W) in float32, for noisy latents of that shape at timesteps (B,).

        `crops` are as `CROPS`.
        """
        states = {
            name: state.expand(len(noisy), *state.shape[1:]) for name, state in self.states.items()
        }
        with without_adapters(self.network):
            prediction = self.denoiser.predict(
                self.network, noisy.to(self.dtype), timesteps, with_crops(states, crops)
            )
        return prediction.float()


def frozen_teacher(
    base: LoadedBase, prompt: str, dtype: torch.dtype, *, stays_frozen: bool
) -> Teacher:
    """The base's network before anything of it is trained, in the forward pass's precision.

    A copy; or the network itself, which the engine casts, where its own weights stay as they are.
    """
    network = base.denoiser.network
    if not stays_frozen:
        network = copy.deepcopy(network).to(dtype).eval().requires_grad_(False)
    return Teacher(base.denoiser, network, dtype, base.states([prompt], dtype))
