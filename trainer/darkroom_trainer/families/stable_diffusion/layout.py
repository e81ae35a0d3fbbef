"""Stable Diffusion 1 and 2 in diffusers' layout."""

from typing import Final

from darkroom_trainer.families.layout import FamilyLayout, ReadConfig, Sizes
from darkroom_trainer.families.unet_configs import (
    refuse_other_channels,
    refuse_other_conditions,
    refuse_other_noise,
    refuse_other_scale,
    refuse_other_width,
    text_config,
    token_limit,
    unet_sizes,
)


def read_sizes(read: ReadConfig) -> Sizes:
    """As `FamilyLayout.read_sizes`."""
    unet, vae = read("unet/config.json"), read("vae/config.json")
    text, tokenizer = text_config(read, "text_encoder"), read("tokenizer/tokenizer_config.json")
    refuse_other_noise(read("scheduler/scheduler_config.json"))
    refuse_other_channels(unet, vae)
    refuse_other_scale(vae)
    refuse_other_conditions(unet, {})
    refuse_other_width(unet, text.get("hidden_size"))
    return unet_sizes(unet, vae, token_limit(tokenizer, text))


LAYOUT: Final = FamilyLayout(
    name="stable_diffusion",
    title="Stable Diffusion 1 or 2",
    pipeline="StableDiffusionPipeline",
    tag="stable-diffusion",
    denoiser="unet",
    denoiser_title="UNet",
    encoders={"text_encoder": "tokenizer"},
    trains_text_encoders=True,
    required={
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "scheduler": "",  # what training needs of it is in its configuration
    },
    optional={
        "safety_checker": "StableDiffusionSafetyChecker",
        "feature_extractor": "CLIPImageProcessor",
        "image_encoder": "CLIPVisionModelWithProjection",
    },
    weights={
        "unet": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
        "text_encoder": "model",
    },
    scheduler="DDIMScheduler",
    sampler="DDIM",
    read_sizes=read_sizes,
    original={
        "model.diffusion_model.": "UNet",
        "first_stage_model.": "VAE",
        "cond_stage_model.": "text encoder",
    },
)
