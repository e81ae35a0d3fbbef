"""Classifier-free guidance in a single pass of the UNet (arXiv 2207.12598, equation 6)."""

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""The UNet at one timestep: its prediction, (B, C, H, W), for latents of that shape and states (B, L, D)."""


def guided(
    predict: Predict,
    latents: Tensor,
    unconditional: Tensor,
    conditional: Tensor,
    scale: float,
) -> Tensor:
    """The guided prediction, (B, C, H, W), for latents of that shape and text states (B, L, D).

    Both halves go through the UNet as one batch of 2B; with a scale of 1 or less only the
    conditional one does, as in diffusers' pipelines.
    """
    if scale <= 1:
        return predict(latents, conditional)
    both = predict(torch.cat([latents, latents]), torch.cat([unconditional, conditional]))
    without, with_prompt = both.chunk(2)
    return without + scale * (with_prompt - without)
