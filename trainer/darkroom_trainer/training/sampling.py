"""Draws latents while training, with classifier-free guidance in a single pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""The denoiser's prediction for latents (2B, C, H, W), the unconditional half first, at one timestep."""


@torch.no_grad()
def draw_latents(
    predict: Predict,
    noise: Tensor,
    *,
    scheduler: Any,
    guidance_scale: float,
) -> Tensor:
    """Latents of B pictures, (B, C, H, W), from noise of that shape.

    `scheduler` is diffusers', with its timesteps set; guidance (arXiv 2207.12598, equation 6).
    """
    latents = noise
    for timestep in scheduler.timesteps:
        both = predict(torch.cat([latents, latents]), timestep).float()
        unconditional, conditional = both.chunk(2)
        guided = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]
    return latents
