"""Tensors in the original layout of Stable Diffusion XL under diffusers' names."""

from types import SimpleNamespace
from typing import Final

from darkroom_trainer.families.layout import ReadConfig
from darkroom_trainer.families.original_unet import Tensors, unet_and_vae

_CLIP: Final = "conditioner.embedders.0.transformer."
_OPEN_CLIP: Final = "conditioner.embedders.1.model."


def convert(checkpoint: Tensors, read: ReadConfig) -> dict[str, Tensors]:
    """The tensors of each component with weights."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_open_clip_checkpoint,
    )

    width = read("text_encoder_2/config.json").get("hidden_size")
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
    return unet_and_vae(checkpoint, read) | {
        "text_encoder": dict(convert_ldm_clip_checkpoint(checkpoint, remove_prefix=_CLIP)),
        "text_encoder_2": dict(convert_open_clip_checkpoint(model, checkpoint, prefix=_OPEN_CLIP)),
    }
