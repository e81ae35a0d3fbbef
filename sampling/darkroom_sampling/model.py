"""A diffusion model in memory: its parts, and what is drawn with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darkroom_sampling.autoencoder import shorter
from darkroom_sampling.protocols import Conditioning, Conditions, Denoiser, LatentCodec, ModelFiles
from darkroom_sampling.samplers import Sampler, SamplerSpec


@dataclass(frozen=True, kw_only=True)
class DiffusionModel:
    """A model on one device."""

    conditioning: Conditioning
    codec: LatentCodec
    denoiser: Denoiser

    samplers: Mapping[Sampler, SamplerSpec]
    """Those that suit it, its usual one first."""

    scheduler_config: Mapping[str, Any]
    """Of its own scheduler, in diffusers' words: every sampler has the same noise levels."""

    device: torch.device
    dtype: torch.dtype
    """Of the denoiser's weights."""

    @property
    def native_side(self) -> int:
        """Shorter side in pixels that the denoiser was trained at; the VAE's where it doesn't say."""
        latents = getattr(self.denoiser.network.config, "sample_size", None)
        if latents:
            return shorter(latents) * self.codec.latent_scale
        return shorter(self.codec.vae.config.sample_size)

    @property
    def side_step(self) -> int:
        """Pixels of which a picture's side is a multiple."""
        return self.codec.latent_scale * self.denoiser.patch_size

    def max_steps(self, sampler: Sampler) -> int:
        """Most steps that a sampler can do: those of the noise schedule, or of a distilled model's teacher."""
        levels = num_timesteps(self.scheduler_config)
        return (
            min(levels, teacher_steps(self.scheduler_config))
            if self.samplers[sampler].distilled
            else levels
        )

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of pictures with those sides in pixels."""
        scale = self.codec.latent_scale
        return (self.codec.latent_channels, height // scale, width // scale)

    def tokens(self, prompts: Sequence[str]) -> Conditions:
        """Of prompts, (P, …), as text encoders take them."""
        return {
            name: tokens.to(self.device)
            for name, tokens in self.conditioning.tokens(prompts).items()
        }

    @torch.no_grad()
    def states(self, prompts: Sequence[str], dtype: torch.dtype | None = None) -> Conditions:
        """What frozen text encoders make of prompts, (P, …), numbers in that type or the denoiser's."""
        states = self.conditioning.states(self.tokens(prompts), self.conditioning.encoders)
        return {
            name: state.to(dtype or self.dtype) if state.is_floating_point() else state
            for name, state in states.items()
        }

    def predict(self, latents: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """What the denoiser says of latents (B, C, h, w) at timesteps (B,), in its own precision."""
        return self.denoiser.predict(
            self.denoiser.network, latents.to(self.dtype), timesteps, conditions
        )


def read_scheduler_config(files: ModelFiles) -> dict[str, Any]:
    """A model's own scheduler_config.json; raises OSError without one."""
    from diffusers import DDIMScheduler

    # Any class reads the file of any other.
    return dict(DDIMScheduler.load_config(files.folder / "scheduler", local_files_only=True))


def num_timesteps(scheduler_config: Mapping[str, Any]) -> int:
    """Noise levels of a schedule; diffusers' default where it doesn't say."""
    return int(scheduler_config.get("num_train_timesteps", 1000))


def teacher_steps(scheduler_config: Mapping[str, Any]) -> int:
    """Steps of the teacher that distilled models take some of; diffusers' default where it doesn't say."""
    return int(scheduler_config.get("original_inference_steps", 50))
