"""Classifier-free guidance in a single pass of the UNet (arXiv 2207.12598, equation 6)."""

from collections.abc import Callable

import torch
from torch import Tensor

from darkroom_serving.prompts import Conditions

Predict = Callable[[Tensor, Conditions], Tensor]
"""The UNet at one timestep: its prediction, (B, C, H, W), for latents of that shape and B conditions."""


def guided(
    predict: Predict,
    latents: Tensor,
    unconditional: Conditions,
    conditional: Conditions,
    scale: float,
) -> Tensor:
    """The guided prediction, (B, C, H, W), for latents of that shape and B conditions.

    Both halves go through the UNet as one batch of 2B; with a scale of 1 or less only the
    conditional one does, as in diffusers' pipelines.
    """
    if scale <= 1:
        return predict(latents, conditional)
    conditions = {
        name: torch.cat([unconditional[name], given]) for name, given in conditional.items()
    }
    both = predict(torch.cat([latents, latents]), conditions)
    without, with_prompt = both.chunk(2)
    return without + scale * (with_prompt - without)
