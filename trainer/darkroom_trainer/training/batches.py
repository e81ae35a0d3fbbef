"""Puts micro batches together: which image at which noise level, as a function of step and sample.

Shapes: N instance images, then as many class images (none without a prior) make a batch of B.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom_trainer.families.protocols import Conditions, Objective, rows_of
from darkroom_trainer.training.latents import Moments
from darkroom_trainer.training.streams import Stream, generator, normal, shuffled_index
from darkroom_trainer.training.teacher import Teacher


@dataclass(frozen=True)
class Prompts:
    """The distinct prompts of a job, as the denoiser takes them."""

    values: Conditions
    """Tokens (P, …), or the frozen text encoders' states (P, …)."""

    instance_rows: Sequence[int]
    """Which of them each of the N instance images has."""

    class_row: int
    """Which of them class images have."""


@dataclass(frozen=True)
class Batch:
    """One forward pass: the first `num_instance` of B are instance images, the rest class images."""

    noisy: Tensor
    """Latents at their noise levels, (B, C, H, W)."""

    timesteps: Tensor
    """Noise level of each, (B,)."""

    prompts: Conditions
    """The distinct prompts of this batch and the class prompt, (P', …)."""

    prompt_rows: Tensor
    """Which of those each has, (B,)."""

    target: Tensor
    """What the denoiser is to say: noise or velocity, or what a teacher says; (B, C, H, W)."""

    num_instance: int

    weights: Tensor | None
    """Of each image's error in the loss, (B,); None where all weigh the same."""


@dataclass(frozen=True)
class BatchSource:
    """All that is drawn from while training."""

    seed: int

    global_batch_size: int
    """Instance images in an optimizer step, over all ranks and micro batches."""

    moments: Moments
    """Of the instance images' latents."""

    prompts: Prompts

    draws: Sequence[int]
    """Instance images in the order of one round: each as often as it repeats."""

    class_latents: Tensor | None
    """Latents of the M class images, (M, C, H, W); None without such a prior."""

    teacher: Teacher | None
    """Whose predictions are the prior's targets, for the instance images again; None without such a prior."""

    objective: Objective

    snr_gamma: float | None = None
    """Gamma of the Min-SNR weights; None where all noise levels weigh the same."""

    noise_offset: float = 0.0
    """Strength of the noise that all pixels of a channel share."""

    @property
    def has_prior(self) -> bool:
        """Whether half of each batch keeps the class noun's meaning."""
        return self.class_latents is not None or self.teacher is not None

    def draw(self, step: int, samples: Sequence[int]) -> Batch:
        """The batch of an optimizer step for some of its samples, of 0 to global batch size - 1.

        Every sample is an instance image and, with a prior, a class image of its own: for a teacher the
        same latents again, at another noise level and under the class prompt.
        """
        images = self._chosen_images(step, samples)
        latents = self.moments.sample(self.seed, step, samples, images)
        rows = [self.prompts.instance_rows[image] for image in images]
        # Even numbers for instance images, odd ones for class images: what a sample is given depends on
        # its number alone, not on the rank or micro batch that draws it. Resuming and other world sizes
        # rest on that; other counters would be another training.
        counters = [2 * sample for sample in samples]
        if self.has_prior:
            latents = torch.cat([latents, self._prior_latents(step, samples, latents)])
            rows += [self.prompts.class_row] * len(samples)
            counters += [2 * sample + 1 for sample in samples]
        device = latents.device
        noise = self._noise(step, counters, latents.shape[1:]).to(device)
        timesteps = self.objective.draw_timesteps(
            [generator(self.seed, Stream.TIMESTEP, step, counter) for counter in counters]
        ).to(device)
        noisy = self.objective.add_noise(latents, noise, timesteps)
        target = self.objective.target(latents, noise, timesteps)
        if self.teacher is not None:
            first = len(samples)
            taught = self.teacher.predict(noisy[first:], timesteps[first:])
            target = torch.cat([target[:first], taught])
        # The class prompt goes along without a prior, too: a text encoder sees as many prompts as ever.
        used = sorted({*rows, self.prompts.class_row})
        return Batch(
            noisy=noisy,
            timesteps=timesteps,
            prompts=rows_of(self.prompts.values, used),
            prompt_rows=torch.tensor([used.index(row) for row in rows], device=device),
            target=target,
            num_instance=len(samples),
            weights=None
            if self.snr_gamma is None
            else self.objective.weights(timesteps, self.snr_gamma),
        )

    def _noise(self, step: int, counters: list[int], shape: torch.Size) -> Tensor:
        noise = normal(self.seed, Stream.NOISE, step, counters, shape)
        if not self.noise_offset:
            return noise
        shared = normal(self.seed, Stream.NOISE_OFFSET, step, counters, (shape[0], 1, 1))
        return noise + self.noise_offset * shared

    def _chosen_images(self, step: int, samples: Sequence[int]) -> list[int]:
        order = self._shuffled(Stream.INSTANCE_ORDER, step, samples, len(self.draws))
        return [self.draws[place] for place in order]

    def _prior_latents(self, step: int, samples: Sequence[int], instance: Tensor) -> Tensor:
        if self.class_latents is None:
            return instance
        return self.class_latents[
            self._shuffled(Stream.CLASS_ORDER, step, samples, len(self.class_latents))
        ]

    def _shuffled(
        self, stream: Stream, step: int, samples: Sequence[int], length: int
    ) -> list[int]:
        first = step * self.global_batch_size
        return [shuffled_index(self.seed, stream, first + sample, length) for sample in samples]


def samples_of(rank: int, world_size: int, micro_batch: int, accumulation: int) -> list[range]:
    """The samples of a step that a rank handles, one range for each of its micro batches."""
    return [
        range(first * micro_batch, (first + 1) * micro_batch)
        for first in range(rank, accumulation * world_size, world_size)
    ]
