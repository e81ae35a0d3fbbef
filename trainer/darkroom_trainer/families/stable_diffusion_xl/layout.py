"""Stable Diffusion XL in diffusers' layout (arXiv 2307.01952)."""

from typing import Final

from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.families.layout import FamilyLayout, ReadConfig, Sizes
from darkroom_trainer.families.unet_configs import read_unet_sizes, text_config

TIME_IDS: Final = 6
"""Numbers of the size condition: original size, upper left corner of the crop, target size."""

ENCODERS: Final = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


def read_sizes(read: ReadConfig) -> Sizes:
    """As `FamilyLayout.read_sizes`."""
    sizes = read_unet_sizes(read, ENCODERS, {"addition_embed_type": "text_time"})
    _refuse_other_projection(read("unet/config.json"), text_config(read, "text_encoder_2"))
    return sizes


def _refuse_other_projection(unet: dict[str, object], text: dict[str, object]) -> None:
    """A UNet that wants other sizes with the prompt, as a refiner does."""
    takes, size = (
        unet.get("projection_class_embeddings_input_dim"),
        unet.get("addition_time_embed_dim"),
    )
    pooled = text.get("projection_dim")
    if not (isinstance(takes, int) and isinstance(size, int) and isinstance(pooled, int)):
        return
    if takes != TIME_IDS * size + pooled:
        raise UnusableBaseError(
            f"its unet takes {takes} numbers beside the text states, where {TIME_IDS} sizes and the"
            f" prompt have {TIME_IDS * size + pooled}: it may be a refiner",
            "use the base model of Stable Diffusion XL",
        )


LAYOUT: Final = FamilyLayout(
    name="stable_diffusion_xl",
    title="Stable Diffusion XL",
    pipeline="StableDiffusionXLPipeline",
    tag="stable-diffusion-xl",
    denoiser="unet",
    denoiser_title="UNet",
    encoders=ENCODERS,
    trains_text_encoders=True,
    required={
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "CLIPTokenizer",
        "scheduler": "",
    },
    optional={
        "feature_extractor": "CLIPImageProcessor",
        "image_encoder": "CLIPVisionModelWithProjection",
    },
    weights={
        "unet": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
        "text_encoder": "model",
        "text_encoder_2": "model",
    },
    scheduler="EulerDiscreteScheduler",
    sampler="DDIM",
    read_sizes=read_sizes,
    original={
        "model.diffusion_model.": "UNet",
        "first_stage_model.": "VAE",
        "conditioner.embedders.0.": "first text encoder",
        "conditioner.embedders.1.": "second text encoder",
    },
)
