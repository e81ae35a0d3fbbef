"""From latents to the pixels of pictures, and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from darkroom_sampling.protocols import LatentCodec

Pixels = NDArray[np.uint8]
"""RGB, (H, W, 3)."""


@torch.no_grad()
def decode_pixels(codec: LatentCodec, latents: Tensor) -> list[Pixels]:
    """The pictures of latents, (B, C, h, w), each decoded by itself: none depends on the others."""
    return [to_pixels(codec.decode(one)[0]) for one in torch.split(latents, 1)]


def to_pixels(picture: Tensor) -> Pixels:
    """8-bit pixels of a picture, (3, H, W) within [-1, 1]; rounded as diffusers does."""
    scaled = (picture.float().clamp(-1, 1) + 1) * 127.5
    pixels: Pixels = scaled.round().to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)


@torch.no_grad()
def encode_pixels(codec: LatentCodec, pixels: Pixels, generator: torch.Generator) -> Tensor:
    """Latents, (1, C, h, w) in float32, of a picture whose sides are multiples of `latent_scale`.

    The generator, on the CPU, draws one of those that the VAE thinks likely.
    """
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    mean, log_variance = codec.encode(picture.to(codec.vae.device))
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    drawn = mean.float() + (0.5 * log_variance.float()).exp() * noise
    return (drawn - codec.shift) * codec.scaling_factor


def latent_mask(codec: LatentCodec, mask: NDArray[np.bool_]) -> Tensor:
    """The mask of latents, (1, 1, h, w), for one of pixels, (H, W): true, and 1, where to draw anew."""
    scale = codec.latent_scale
    height, width = (side // scale for side in mask.shape)
    pixels = torch.from_numpy(mask)[None, None].float()
    return F.interpolate(pixels, size=(height, width))
