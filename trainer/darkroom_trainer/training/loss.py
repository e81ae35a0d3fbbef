"""The loss of DreamBooth with prior preservation: pure functions of tensors.

Shapes: N instance images, then as many class images (none without a prior) make a batch of B;
C, H, W are those of latents.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossTerms:
    """Scalars; `total` is what is minimised, the other two are for people to watch."""

    total: Tensor
    instance: Tensor
    prior: Tensor


def squared_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each image, (B,) in float32, of predictions and targets (B, C, H, W)."""
    return (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))


def dreambooth_loss(
    errors: Tensor, num_instance: int, prior_weight: float, weights: Tensor | None = None
) -> LossTerms:
    """Instance loss + lambda x prior loss (DreamBooth, arXiv 2208.12242, equation 2).

    Of the errors, (B,), the first `num_instance` are those of instance images, the rest of class images.
    `weights`, (B,), are those of the images' errors; all 1 when absent.
    """
    if weights is not None:
        errors = weights * errors
    instance = errors[:num_instance].mean()
    if len(errors) == num_instance:
        return LossTerms(total=instance, instance=instance, prior=torch.zeros_like(instance))
    prior = errors[num_instance:].mean()
    return LossTerms(total=instance + prior_weight * prior, instance=instance, prior=prior)
