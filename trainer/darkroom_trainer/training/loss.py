"""The loss of DreamBooth with prior preservation: pure functions of tensors.

Shapes: N instance images, then as many class images (none without a prior) make a batch of B;
C, H, W are those of latents.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class LossTerms:
    """Scalars; `total` is what is minimised, the other two are for people to watch."""

    total: Tensor
    instance: Tensor
    prior: Tensor


def _coefficients(alphas_cumprod: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Square roots of alpha-bar and 1 - alpha-bar at the timesteps, shaped (B, 1, 1, 1)."""
    alpha_bar = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The latents at their timesteps (DDPM, arXiv 2006.11239, equation 4); (B, C, H, W)."""
    signal, spread = _coefficients(alphas_cumprod, timesteps)
    return signal * latents + spread * noise


def prediction_target(
    kind: PredictionType,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    alphas_cumprod: Tensor,
) -> Tensor:
    """What the UNet should say: the noise, or the velocity (arXiv 2202.00512, appendix D)."""
    if kind == "epsilon":
        return noise
    signal, spread = _coefficients(alphas_cumprod, timesteps)
    return signal * noise - spread * latents


def min_snr_weights(
    kind: PredictionType, timesteps: Tensor, alphas_cumprod: Tensor, gamma: float
) -> Tensor:
    """Min-SNR weights of the squared errors, (B,) (arXiv 2303.09556, equation 5 and appendix).

    Where nothing of the signal is left (zero terminal SNR) the noise has weight 1, the velocity 0.
    """
    alpha_bar = alphas_cumprod[timesteps]
    snr = alpha_bar / (1 - alpha_bar)
    if kind == "epsilon":
        return (gamma / snr).clamp(max=1)
    return snr.clamp(max=gamma) / (snr + 1)


def dreambooth_loss(
    prediction: Tensor,
    target: Tensor,
    num_instance: int,
    prior_weight: float,
    weights: Tensor | None = None,
) -> LossTerms:
    """Instance loss + lambda x prior loss (DreamBooth, arXiv 2208.12242, equation 2), in float32.

    The first `num_instance` of the batch are instance images, the rest class images. `weights`, (B,),
    are those of the images' errors; all 1 when absent.
    """
    errors = (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))
    if weights is not None:
        errors = weights * errors
    instance = errors[:num_instance].mean()
    if len(errors) == num_instance:
        return LossTerms(total=instance, instance=instance, prior=torch.zeros_like(instance))
    prior = errors[num_instance:].mean()
    return LossTerms(total=instance + prior_weight * prior, instance=instance, prior=prior)
