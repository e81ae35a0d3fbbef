"""Loads the parts of a Stable Diffusion model, XL too: safetensors only, nothing downloaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from darkroom_serving.prompts import ClipReader, Conditions, PromptReader
from darkroom_serving.safety import SafetyChecker, load_safety_checker
from darkroom_serving.samplers import SPECS, Sampler, SamplerSpec


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in memory."""

    denoiser: Any
    """Diffusers' UNet, or another network that takes latents."""

    vae: Any
    prompts: PromptReader
    scheduler_config: dict[str, Any]
    safety: SafetyChecker | None
    """Judges pictures, where the model came with one."""

    device: torch.device
    dtype: torch.dtype

    sampler_specs: ClassVar[Mapping[Sampler, SamplerSpec]] = SPECS
    """The samplers that suit it."""

    @property
    def side_step(self) -> int:
        """Pixels of which a picture's side is a multiple."""
        return self.latent_scale

    @property
    def latent_scale(self) -> int:
        """Pixels along a side of a latent's cell."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def native_side(self) -> int:
        """Side in pixels that the UNet was trained at: the shorter one of an oblong; the VAE's if it doesn't say."""
        latents, pixels = self.denoiser.config.sample_size, self.vae.config.sample_size
        if not latents:
            return _shorter(pixels)
        return _shorter(latents) * self.latent_scale

    @property
    def max_steps(self) -> int:
        """Steps of the noise schedule: no sampler can do more."""
        return int(self.scheduler_config.get("num_train_timesteps", 1000))

    def predict(self, timestep: Any, latents: Tensor, conditions: Conditions) -> Tensor:
        """The denoiser's prediction, (B, C, h, w), for latents of that shape at one timestep."""
        latents = latents.to(self.dtype)
        options: dict[str, Any] = {}
        if "pooled" in conditions:
            # Stable Diffusion XL is told the size, and that nothing is cropped.
            size = [side * self.latent_scale for side in latents.shape[-2:]]
            ids = torch.tensor([[*size, 0, 0, *size]], dtype=self.dtype, device=self.device)
            options["added_cond_kwargs"] = {
                "text_embeds": conditions["pooled"],
                "time_ids": ids.expand(len(latents), -1),
            }
        predicted = self.denoiser(
            latents, timestep, conditions["states"], return_dict=False, **options
        )
        return cast(Tensor, predicted[0])

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures, (B, 3, H, W) within [-1, 1], of latents (B, C, h, w)."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        scaled = scaled + (self.vae.config.shift_factor or 0.0)
        return cast(Tensor, self.vae.decode(scaled, return_dict=False)[0]).float().clamp(-1, 1)


def _shorter(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else min(size)


def choose_device() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(folder: Path, device: torch.device) -> LoadedModel:
    """Loads a verified folder, in float16 on a GPU and in float32 elsewhere.

    Raises OSError or ValueError when a part is missing or has no safetensors.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    dtype = torch.float16 if device.type == "cuda" else torch.float32
    options = {"use_safetensors": True, "dtype": dtype, "local_files_only": True}
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", **options)
    vae = AutoencoderKL.from_pretrained(folder / "vae", **options)
    if vae.config.force_upcast:  # that of Stable Diffusion XL overflows float16
        vae = vae.to(torch.float32)
    prompts = _prompt_reader(folder, options)
    for part in (unet, vae, *prompts.encoders):
        part.to(device).eval().requires_grad_(False)
    return LoadedModel(
        denoiser=unet,
        vae=vae,
        prompts=prompts,
        scheduler_config=dict(
            DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)
        ),
        safety=load_safety_checker(folder, device),
        device=device,
        dtype=dtype,
    )


def _prompt_reader(folder: Path, options: dict[str, Any]) -> ClipReader:
    from diffusers import DiffusionPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    classes = {"": CLIPTextModel}
    if (folder / "text_encoder_2").is_dir():
        classes["_2"] = CLIPTextModelWithProjection
    index = DiffusionPipeline.load_config(folder, local_files_only=True)
    return ClipReader(
        tokenizers=[
            CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}", local_files_only=True)
            for suffix in classes
        ],
        encoders=[
            cls.from_pretrained(folder / f"text_encoder{suffix}", **options)
            for suffix, cls in classes.items()
        ],
        empty_is_zero=bool(index.get("force_zeros_for_empty_prompt", True)),
    )
