"""Loads a base model and splits it into what is trained and what only serves.

UNet and text encoder sit in one module, because DeepSpeed allows one engine a process; the VAE
stays outside, where ZeRO can't shard it away.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from darkroom_trainer.inputs.base.layout import find_components, weight_files
from darkroom_trainer.training.loss import PredictionType


class Denoiser(nn.Module):
    """UNet and, when it is trained too, the text encoder: everything that gets gradients."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module | None) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, prompts: Tensor, rows: Tensor) -> Tensor:
        """The UNet's prediction, (B, C, H, W), for noisy latents of that shape.

        `prompts` holds the distinct prompts, as token ids (P, L) when the text encoder is trained
        and as its states (P, L, D) when not; `rows` (B,) says which of them each latent has.
        """
        states = prompts if self.text_encoder is None else self.text_encoder(prompts)[0]
        return cast(Tensor, self.unet(noisy, timesteps, states[rows], return_dict=False)[0])


@dataclass(frozen=True)
class LoadedBase:
    """The parts of a base model in float32, on one device."""

    unet: Any
    """diffusers' UNet2DConditionModel."""

    text_encoder: Any
    """transformers' CLIPTextModel."""

    vae: Any
    """diffusers' AutoencoderKL."""

    tokenizer: Any
    """transformers' CLIPTokenizer."""

    scheduler_config: dict[str, Any]
    """Of the base's own scheduler; training takes its betas and prediction type."""

    alphas_cumprod: Tensor
    """Share of signal at each noise level, (T,)."""

    @property
    def prediction_type(self) -> PredictionType:
        """What the UNet was trained to say."""
        return cast(PredictionType, self.scheduler_config["prediction_type"])

    @property
    def latent_scale(self) -> int:
        """Pixels along a side of a latent's cell."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def max_tokens(self) -> int:
        """Longest prompt in tokens, L; a tokenizer that does not say it has 1e30."""
        positions = int(self.text_encoder.config.max_position_embeddings)
        return min(int(self.tokenizer.model_max_length), positions)

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """(C, H, W) of the latents of square pictures with that side."""
        side = resolution // self.latent_scale
        return (int(self.unet.config.in_channels), side, side)

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids, (P, L), padded and cut to the text encoder's length."""
        ids = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return cast(Tensor, ids).to(self.alphas_cumprod.device)

    @torch.no_grad()
    def prompt_states(self, prompts: list[str]) -> Tensor:
        """The text encoder's states, (P, L, D)."""
        return cast(Tensor, self.text_encoder(self.tokens(prompts))[0])


def load_base(folder: Path, device: torch.device) -> LoadedBase:
    """Loads a folder that `inspect_base` found fit: safetensors only, nothing downloaded."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    classes = {
        "unet": UNet2DConditionModel,
        "text_encoder": CLIPTextModel,
        "vae": AutoencoderKL,
    }
    scheduler = read_scheduler(folder / "scheduler", find_components(folder)["scheduler"])
    parts: dict[str, Any] = {
        component: cls.from_pretrained(
            folder / component,
            variant=weight_files(folder, component).variant,
            use_safetensors=True,
            dtype=torch.float32,
            local_files_only=True,
        )
        for component, cls in classes.items()
    }
    for part in parts.values():
        part.to(device).eval().requires_grad_(False)
    return LoadedBase(
        **parts,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        scheduler_config=dict(scheduler.config),
        alphas_cumprod=scheduler.alphas_cumprod.to(device),
    )


def read_scheduler(folder: Path, class_name: str) -> Any:
    """A DDPMScheduler of diffusers with the noise levels of a scheduler of that class.

    The class itself reads the configuration first: each has defaults of its own for what is not there.
    Raises ValueError for one that diffusers doesn't have, or whose noise levels aren't made of betas.
    """
    import diffusers

    cls = getattr(diffusers, class_name, None)
    if cls is None:
        raise ValueError(f"diffusers {diffusers.__version__} has no {class_name}")
    own = cls.from_pretrained(folder, local_files_only=True)
    if getattr(own, "alphas_cumprod", None) is None:
        raise ValueError(f"the noise levels of {class_name} are not made of betas")
    config = dict(own.config)
    config.pop("_use_default_values", None)  # its defaults count, not those of DDPM
    scheduler = diffusers.DDPMScheduler.from_config(config)
    if len(scheduler.alphas_cumprod) != own.config.num_train_timesteps:
        raise ValueError("it has another number of betas than num_train_timesteps says")
    if not torch.isfinite(scheduler.alphas_cumprod).all():
        raise ValueError("its betas make noise levels that are not finite")
    if not torch.allclose(scheduler.alphas_cumprod, own.alphas_cumprod.float(), atol=1e-6):
        raise ValueError(f"{class_name} shifts the noise levels that its betas make")
    return scheduler


def trainable_denoiser(
    base: LoadedBase, *, train_text_encoder: bool, gradient_checkpointing: bool = False
) -> Denoiser:
    """The module for the engine, its parameters asserted to be in 32 bits.

    It stays in evaluation mode: dropout, where a base has it, would draw from torch's own generator,
    which no checkpoint restores.
    """
    denoiser = Denoiser(base.unet, base.text_encoder if train_text_encoder else None)
    denoiser.eval().requires_grad_(True)
    if gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    assert all(parameter.dtype == torch.float32 for parameter in denoiser.parameters()), (
        "weights trained in 16 bits lose small updates"
    )
    return denoiser


def split_state(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A denoiser's state dict by part (`unet`, `text_encoder`), each with diffusers' names of tensors."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    return parts
