"""Draws latents while training: DDIM with classifier-free guidance in a single pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""The UNet's prediction for latents (2B, C, H, W), the unconditional half first, at one timestep."""


@torch.no_grad()
def draw_latents(
    predict: Predict,
    noise: Tensor,
    *,
    scheduler_config: dict[str, Any],
    steps: int,
    guidance_scale: float,
) -> Tensor:
    """Latents of B pictures, (B, C, H, W), from noise of that shape.

    DDIM (arXiv 2010.02502, equation 12, eta 0); guidance (arXiv 2207.12598, equation 6).
    """
    from diffusers import DDIMScheduler

    # Latents have no bounds to clip to, though that is the default where a base doesn't say.
    scheduler = DDIMScheduler.from_config(scheduler_config, clip_sample=False)
    scheduler.set_timesteps(steps)
    latents = noise
    for timestep in scheduler.timesteps:
        both = predict(torch.cat([latents, latents]), timestep).float()
        unconditional, conditional = both.chunk(2)
        guided = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(guided, timestep, latents, return_dict=False)[0]
    return latents
