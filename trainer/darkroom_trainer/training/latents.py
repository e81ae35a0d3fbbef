"""Instance images as latents: the VAE's posterior is computed once, a sample of it drawn each step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom_sampling.protocols import LatentCodec
from darkroom_trainer.training.streams import Stream, integers, normal

ENCODE_BATCH = 8
"""Pictures encoded at once; bounds the memory, changes nothing else."""


@dataclass(frozen=True)
class Moments:
    """Posterior mean and log-variance of N images in O orientations (plain, then mirrored): (N, O, C, H, W).

    A mirrored picture's posterior isn't the mirrored posterior, so both are kept.
    """

    mean: Tensor
    log_variance: Tensor
    scaling_factor: float
    """The denoiser's latents are `(latents - shift) * scaling_factor`."""

    shift: float = 0.0

    def sample(self, seed: int, step: int, samples: Sequence[int], images: Sequence[int]) -> Tensor:
        """Scaled latents, (len(samples), C, H, W): image `images[i]` drawn with sample i's numbers."""
        flips = integers(seed, Stream.FLIP, step, samples, high=self.mean.shape[1])
        noise = normal(seed, Stream.POSTERIOR, step, samples, self.mean.shape[2:])
        rows = torch.tensor(images)
        deviation = (0.5 * self.log_variance[rows, flips]).exp()
        latents = self.mean[rows, flips] + deviation * noise.to(deviation.device)
        return (latents - self.shift) * self.scaling_factor


@torch.no_grad()
def encode_moments(
    codec: LatentCodec, pixels: Tensor, *, horizontal_flip: bool, device: torch.device
) -> Moments:
    """Encodes pictures, uint8 (N, H, W, 3), with the frozen VAE."""
    plain = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0
    orientations = [plain, plain.flip(-1)] if horizontal_flip else [plain]
    means, log_variances = [], []
    for pictures in orientations:
        posteriors = [
            codec.encode(batch.to(device)) for batch in torch.split(pictures, ENCODE_BATCH)
        ]
        means.append(torch.cat([mean for mean, _ in posteriors]))
        log_variances.append(torch.cat([log_variance for _, log_variance in posteriors]))
    return Moments(
        mean=torch.stack(means, dim=1),
        log_variance=torch.stack(log_variances, dim=1),
        scaling_factor=codec.scaling_factor,
        shift=codec.shift,
    )
