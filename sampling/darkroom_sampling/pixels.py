"""From latents to the pixels of pictures."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
