"""Loads the parts of a Stable Diffusion model: safetensors only, nothing downloaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from darkroom_serving.safety import SafetyChecker, load_safety_checker


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in memory."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler_config: dict[str, Any]
    safety: SafetyChecker | None
    """Judges pictures, where the model came with one."""

    device: torch.device
    dtype: torch.dtype

    @property
    def latent_scale(self) -> int:
        """Pixels along a side of a latent's cell."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def native_side(self) -> int:
        """Side in pixels that the UNet was trained at: the shorter one of an oblong; the VAE's if it doesn't say."""
        latents, pixels = self.unet.config.sample_size, self.vae.config.sample_size
        if not latents:
            return _shorter(pixels)
        return _shorter(latents) * self.latent_scale

    @property
    def max_tokens(self) -> int:
        """Longest prompt in tokens, with the begin and end tokens."""
        positions = int(self.text_encoder.config.max_position_embeddings)
        return min(int(self.tokenizer.model_max_length), positions)

    @property
    def max_steps(self) -> int:
        """Steps of the noise schedule: no sampler can do more."""
        return int(self.scheduler_config.get("num_train_timesteps", 1000))

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, with the begin and end tokens."""
        return len(
            self.tokenizer(with_all_vectors(prompt, self.tokenizer), verbose=False).input_ids
        )

    def text_states(self, prompt: str) -> Tensor:
        """The text encoder's states of one prompt, (1, L, D); what is too long is cut off."""
        tokens = self.tokenizer(
            with_all_vectors(prompt, self.tokenizer),
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return cast(Tensor, self.text_encoder(tokens.to(self.device))[0])

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures, (B, 3, H, W) within [-1, 1], of latents (B, C, h, w)."""
        scaled = latents.to(self.dtype) / self.vae.config.scaling_factor
        return cast(Tensor, self.vae.decode(scaled, return_dict=False)[0]).float().clamp(-1, 1)


def with_all_vectors(prompt: str, tokenizer: Any) -> str:
    """A prompt in which a new token with several embeddings is written out: `<sks> <sks>_1`, as diffusers does."""
    from diffusers.loaders import TextualInversionLoaderMixin

    return str(TextualInversionLoaderMixin().maybe_convert_prompt(prompt, tokenizer))


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
    from transformers import CLIPTextModel, CLIPTokenizer

    dtype = torch.float16 if device.type == "cuda" else torch.float32
    options = {"use_safetensors": True, "dtype": dtype, "local_files_only": True}
    parts = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet", **options),
        "vae": AutoencoderKL.from_pretrained(folder / "vae", **options),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder", **options),
    }
    for part in parts.values():
        part.to(device).eval().requires_grad_(False)
    return LoadedModel(
        **parts,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        scheduler_config=dict(
            DDIMScheduler.load_config(folder / "scheduler", local_files_only=True)
        ),
        safety=load_safety_checker(folder, device),
        device=device,
        dtype=dtype,
    )
