"""Base models of the published shapes with random weights: as fast as the real ones, and nobody's.

The sizes are those of the configurations on the Hub (stable-diffusion-v1-5, stable-diffusion-xl-base-1.0);
`tiny` is for machines without a GPU. Only the tokenizer is another: the miniature's, which pads to the
same 77 tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from darkroom_api.builtin import builtin_folder

SD_VAE: Final[dict[str, Any]] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
SD15_UNET: Final[dict[str, Any]] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SDXL_UNET: Final[dict[str, Any]] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
TINY_UNET: Final[dict[str, Any]] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
}
CLIP_L: Final = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
"""CLIP ViT-L/14's text encoder."""

CLIP_BIGG: Final = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
"""OpenCLIP ViT-bigG/14's text encoder."""

TINY_CLIP: Final = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
NOISE: Final = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
}


@dataclass(frozen=True)
class Shape:
    """A base model of a published shape."""

    name: str
    resolution: int
    write: Callable[[Path], None]


def write_sd15(folder: Path) -> None:
    """Stable Diffusion 1.5."""
    _write_stable_diffusion(folder, SD15_UNET, CLIP_L, SD_VAE)


def write_tiny(folder: Path) -> None:
    """The same architecture with next to nothing in it."""
    vae = SD_VAE | {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}
    _write_stable_diffusion(folder, TINY_UNET, TINY_CLIP, vae)


def _write_stable_diffusion(
    folder: Path, unet: dict[str, Any], text: dict[str, Any], vae: dict[str, Any]
) -> None:
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel

    tokenizer = _tokenizer()
    StableDiffusionPipeline(
        vae=AutoencoderKL(**vae),
        text_encoder=CLIPTextModel(_text_config(tokenizer, text)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(**unet),
        scheduler=DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)


def write_sdxl(folder: Path) -> None:
    """Stable Diffusion XL 1.0, saved in half precision: its weights are 3.5 billion numbers."""
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer, vae = _tokenizer(), SD_VAE | {"scaling_factor": 0.13025, "force_upcast": True}
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(**vae),
        text_encoder=CLIPTextModel(_text_config(tokenizer, CLIP_L)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer, CLIP_BIGG)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=UNet2DConditionModel(**SDXL_UNET),
        scheduler=EulerDiscreteScheduler(**NOISE),
    ).to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)


def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(builtin_folder("miniature") / "tokenizer")
    tokenizer.model_max_length = 77
    return tokenizer


def _text_config(tokenizer: Any, sizes: dict[str, Any]) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        max_position_embeddings=77,
        **sizes,
    )


SHAPES: Final = (
    Shape("sd15", 512, write_sd15),
    Shape("sdxl", 1024, write_sdxl),
    Shape("tiny", 64, write_tiny),
)
