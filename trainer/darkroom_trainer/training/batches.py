"""Puts micro batches together: which image at which noise level, as a function of step and sample.

Shapes: N instance images, then as many class images (none without a prior) make a batch of B.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from darkroom_sampling.protocols import Conditions, rows_of
from darkroom_trainer.families.protocols import Objective
from darkroom_trainer.training.data_order import draws_of_micro_batch
from darkroom_trainer.training.latents import Moments
from darkroom_trainer.training.streams import Stream, generator, normal, shuffled_index
from darkroom_trainer.training.teacher import Teacher


@dataclass(frozen=True)
class Prompts:
    """The distinct prompts of a job, as the denoiser takes them."""

    values: Conditions
    """Tokens (P, …), or the frozen text encoders' states (P, …)."""

    instance_rows: Sequence[int]
    """Which of them each of the job's photos has."""

    class_row: int
    """Which of them class images have."""


@dataclass(frozen=True)
class Bucket:
    """Instance images of one size; all of them where photos are cropped to squares."""

    photos: Sequence[int]
    """Which they are among all photos of the job."""

    moments: Moments
    """Of their latents."""

    draws: Sequence[int]
    """Images of `moments` in the order of one round: each as often as it repeats."""

    crops: Tensor | None = None
    """As `CROPS`, of each of them; None where nothing is told."""


@dataclass(frozen=True)
class Pass:
    """One forward pass: images of one size, instance images first."""

    noisy: Tensor
    """Latents at their noise levels, (B, C, H, W)."""

    timesteps: Tensor
    """Noise level of each, (B,)."""

    prompt_rows: Tensor
    """Which of the batch's prompts each has, (B,)."""

    crops: Tensor | None
    """As `CROPS`."""

    target: Tensor
    """What the denoiser is to say: noise or velocity, or what a teacher says; (B, C, H, W)."""


@dataclass(frozen=True)
class Batch:
    """One micro batch of B images: the first `num_instance` of them are instance images, the rest class images."""

    passes: tuple[Pass, ...]
    """All in one; or those of a bucket, and class images in one of their own, which are squares."""

    prompts: Conditions
    """The distinct prompts of this batch and the class prompt, (P', …)."""

    num_instance: int

    weights: Tensor | None
    """Of each image's error in the loss, (B,); None where all weigh the same."""


@dataclass(frozen=True)
class _Images:
    """Some images of a micro batch before they have noise."""

    latents: Tensor

    counters: list[int]
    """What their noise and noise levels are drawn by."""

    rows: list[int]
    """Which of the job's prompts each has."""

    crops: Tensor | None

    def with_(self, others: Self) -> Self:
        """These and, behind them, others of that size; crops are told of both or of none."""
        crops = None
        if self.crops is not None and others.crops is not None:
            crops = torch.cat([self.crops, others.crops])
        return replace(
            self,
            latents=torch.cat([self.latents, others.latents]),
            counters=self.counters + others.counters,
            rows=self.rows + others.rows,
            crops=crops,
        )


@dataclass(frozen=True)
class BatchSource:
    """All that is drawn from while training."""

    seed: int

    global_batch_size: int
    """Instance images in an optimizer step, over all ranks and micro batches."""

    buckets: Sequence[Bucket]
    """The instance images."""

    prompts: Prompts

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
        """A micro batch of an optimizer step: `samples` are its own ones of 0 to global batch size - 1.

        Every sample is an instance image and, with a prior, a class image of its own: for a teacher the
        same latents again, at another noise level and under the class prompt.
        """
        groups = self._images(step, samples)
        # The class prompt goes along without a prior, too: a text encoder sees as many prompts as ever.
        used = sorted({row for group in groups for row in group.rows} | {self.prompts.class_row})
        passes = tuple(self._pass(step, group, used, len(samples)) for group in groups)
        timesteps = torch.cat([one.timesteps for one in passes])
        return Batch(
            passes=passes,
            prompts=rows_of(self.prompts.values, used),
            num_instance=len(samples),
            weights=None
            if self.snr_gamma is None
            else self.objective.weights(timesteps, self.snr_gamma),
        )

    def _images(self, step: int, samples: Sequence[int]) -> list[_Images]:
        """Those of a micro batch, by forward pass."""
        instance = self._instance_images(step, samples)
        if not self.has_prior:
            return [instance]
        prior = self._prior_images(step, samples, instance)
        # With buckets always in two passes, also for squares: ZeRO 3 needs as many of them on all ranks.
        if self.class_latents is not None and instance.crops is not None:
            return [instance, prior]
        return [instance.with_(prior)]

    def _instance_images(self, step: int, samples: Sequence[int]) -> _Images:
        first = step * self.global_batch_size + samples[0]
        number, draws = draws_of_micro_batch(
            self.seed,
            [len(bucket.draws) for bucket in self.buckets],
            first // len(samples),
            len(samples),
        )
        bucket = self.buckets[number]
        images = [bucket.draws[draw] for draw in draws]
        return _Images(
            latents=bucket.moments.sample(self.seed, step, samples, images),
            # Even numbers for instance images, odd ones for class images: what a sample is given depends on
            # its number alone, not on the rank or micro batch that draws it. Resuming and other world sizes
            # rest on that; other counters would be another training.
            counters=[2 * sample for sample in samples],
            rows=[self.prompts.instance_rows[bucket.photos[image]] for image in images],
            crops=None if bucket.crops is None else bucket.crops[images],
        )

    def _prior_images(self, step: int, samples: Sequence[int], instance: _Images) -> _Images:
        prior = replace(
            instance,
            counters=[2 * sample + 1 for sample in samples],
            rows=[self.prompts.class_row] * len(samples),
        )
        if self.class_latents is None:
            return prior
        first, length = step * self.global_batch_size, len(self.class_latents)
        order = [
            shuffled_index(self.seed, Stream.CLASS_ORDER, first + sample, length)
            for sample in samples
        ]
        return replace(prior, latents=self.class_latents[order], crops=None)

    def _pass(self, step: int, images: _Images, used: list[int], num_instance: int) -> Pass:
        latents, device = images.latents, images.latents.device
        noise = self._noise(step, images.counters, latents.shape[1:]).to(device)
        timesteps = self.objective.draw_timesteps(
            [generator(self.seed, Stream.TIMESTEP, step, counter) for counter in images.counters]
        ).to(device)
        noisy = self.objective.add_noise(latents, noise, timesteps)
        target = self.objective.target(latents, noise, timesteps)
        if self.teacher is not None:
            asked = slice(num_instance, None)
            crops = None if images.crops is None else images.crops[asked]
            taught = self.teacher.predict(noisy[asked], timesteps[asked], crops)
            target = torch.cat([target[:num_instance], taught])
        return Pass(
            noisy=noisy,
            timesteps=timesteps,
            prompt_rows=torch.tensor([used.index(row) for row in images.rows], device=device),
            crops=images.crops,
            target=target,
        )

    def _noise(self, step: int, counters: list[int], shape: torch.Size) -> Tensor:
        noise = normal(self.seed, Stream.NOISE, step, counters, shape)
        if not self.noise_offset:
            return noise
        shared = normal(self.seed, Stream.NOISE_OFFSET, step, counters, (shape[0], 1, 1))
        return noise + self.noise_offset * shared


def samples_of(rank: int, world_size: int, micro_batch: int, accumulation: int) -> list[range]:
    """The samples of a step that a rank handles, one range for each of its micro batches."""
    return [
        range(first * micro_batch, (first + 1) * micro_batch)
        for first in range(rank, accumulation * world_size, world_size)
    ]
