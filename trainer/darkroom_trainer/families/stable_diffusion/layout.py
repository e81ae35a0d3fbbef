"""Stable Diffusion 1 and 2 in diffusers' layout."""

from typing import Final

from darkroom_trainer.families.layout import FamilyLayout, ReadConfig, Sizes
from darkroom_trainer.families.unet_configs import read_unet_sizes

ENCODERS: Final = {"text_encoder": "tokenizer"}


def read_sizes(read: ReadConfig) -> Sizes:
    """As `FamilyLayout.read_sizes`."""
    return read_unet_sizes(read, ENCODERS, {})


LAYOUT: Final = FamilyLayout(
    name="stable_diffusion",
    title="Stable Diffusion 1 or 2",
    pipeline="StableDiffusionPipeline",
    tag="stable-diffusion",
    denoiser="unet",
    denoiser_title="UNet",
    encoders=ENCODERS,
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
