"""The UNet and the VAE of a single file in the original layout, under diffusers' names."""

import torch

from darkroom_trainer.families.layout import ReadConfig

Tensors = dict[str, torch.Tensor]


def unet_and_vae(checkpoint: Tensors, read: ReadConfig) -> dict[str, Tensors]:
    """Both, by component."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    unet, vae = read("unet/config.json"), read("vae/config.json")
    return {
        "unet": convert_ldm_unet_checkpoint(checkpoint, unet),
        "vae": _with_linear_attention(convert_ldm_vae_checkpoint(checkpoint, vae)),
    }


def _with_linear_attention(tensors: Tensors) -> Tensors:
    """The VAE's attention was a convolution of one pixel, and is a matrix."""
    return {
        name: tensor[:, :, 0, 0] if ".attentions." in name and tensor.ndim == 4 else tensor
        for name, tensor in tensors.items()
    }
