"""Tensors in the original layout of Stable Diffusion 1 or 2 under diffusers' names.

The names are converted by diffusers' own functions (`from_single_file` uses them).
"""

from types import SimpleNamespace
from typing import Final

from darkroom_trainer.families.layout import ReadConfig
from darkroom_trainer.families.original_unet import Tensors, unet_and_vae

_OPEN_CLIP: Final = "cond_stage_model.model."
"""How the text encoder's tensors begin in Stable Diffusion 2."""


def convert(checkpoint: Tensors, read: ReadConfig) -> dict[str, Tensors]:
    """The tensors of each component with weights."""
    return unet_and_vae(checkpoint, read) | {"text_encoder": _text_encoder(checkpoint, read)}


def _text_encoder(checkpoint: Tensors, read: ReadConfig) -> Tensors:
    """The CLIP of version 1, or the OpenCLIP of version 2."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_open_clip_checkpoint,
    )

    if not any(name.startswith(_OPEN_CLIP) for name in checkpoint):
        return dict(convert_ldm_clip_checkpoint(checkpoint))
    width = read("text_encoder/config.json").get("hidden_size")
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
    return dict(convert_open_clip_checkpoint(model, checkpoint, prefix=_OPEN_CLIP))
