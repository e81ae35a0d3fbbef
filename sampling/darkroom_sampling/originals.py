"""Pictures that others are drawn from: image-to-image, and inpainting by a UNet that knows nothing of masks."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Original:
    """The pictures that others are drawn from: image-to-image, or inpainting."""

    latents: Tensor
    """(B, C, h, w) in float32."""

    strength: float
    """Share of the steps that are taken, more than 0 and at most 1: how much may change (arXiv 2108.01073)."""

    mask: Tensor | None = None
    """(B, 1, h, w): 1 where pictures are drawn anew, 0 where they stay as they are; None: everywhere anew."""


@dataclass(frozen=True)
class Kept:
    """What stays of the original pictures: put back after each step, at the noise level of then (arXiv 2201.09865)."""

    latents: Tensor
    noise: Tensor
    mask: Tensor
    """As `Original.mask`."""

    def within(self, drawn: Tensor, scheduler: Any, timestep: Tensor) -> Tensor:
        """What was drawn, with what stays; timestep (1,) is that of the next step, (0,) after the last one."""
        original = self.latents
        if len(timestep):
            original = _add_noise(scheduler, original, self.noise, timestep)
        return (1 - self.mask) * original + self.mask * drawn


@dataclass(frozen=True)
class Start:
    """Where a trajectory begins."""

    timesteps: Tensor
    """Of the steps to take, (S,)."""

    latents: Tensor
    kept: Kept | None = None


def from_noise(scheduler: Any, noise: Tensor) -> Start:
    """All steps, from noise, (B, C, h, w)."""
    # Schedulers of flows begin with plain noise.
    return Start(scheduler.timesteps, noise * getattr(scheduler, "init_noise_sigma", 1.0))


def from_original(scheduler: Any, noise: Tensor, original: Original, steps: int) -> Start:
    """The last steps, as diffusers' pipelines take them: from the pictures with the noise of the first of those.

    Raises ValueError for a strength that leaves none.
    """
    taken = min(int(steps * original.strength), steps)
    if taken < 1:
        raise ValueError(
            f"strength: {original.strength} of {steps} steps is none;"
            f" use at least {1 / steps:.2g}, or more steps"
        )
    begins = (steps - taken) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begins)
    timesteps = scheduler.timesteps[begins:]
    latents = original.latents.to(noise.device)
    noisy = _add_noise(scheduler, latents, noise, timesteps[:1])
    if original.mask is None:
        return Start(timesteps, noisy)
    if taken == steps:  # nothing of what is drawn anew is to be seen
        noisy = from_noise(scheduler, noise).latents
    return Start(timesteps, noisy, Kept(latents, noise, original.mask.to(noise.device)))


def _add_noise(scheduler: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Latents of pictures at a noise level, timestep (1,), with noise of their shape."""
    timesteps = timestep.repeat(len(latents))
    if hasattr(scheduler, "scale_noise"):  # those of flows
        noisy: Tensor = scheduler.scale_noise(latents, timesteps, noise)
    else:
        noisy = scheduler.add_noise(latents, noise, timesteps)
    return noisy
