"""The latent codec of models with diffusers' AutoencoderKL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from darkroom_sampling.protocols import ModelFiles


@dataclass(frozen=True)
class KLCodec:
    """diffusers' AutoencoderKL."""

    vae: Any

    @property
    def latent_channels(self) -> int:
        """As `LatentCodec.latent_channels`."""
        return int(self.vae.config.latent_channels)

    @property
    def latent_scale(self) -> int:
        """As `LatentCodec.latent_scale`."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def scaling_factor(self) -> float:
        """As `LatentCodec.scaling_factor`."""
        return float(self.vae.config.scaling_factor)

    @property
    def shift(self) -> float:
        """As `LatentCodec.shift`; older VAEs have none."""
        return float(self.vae.config.shift_factor or 0.0)

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """As `LatentCodec.encode`."""
        posterior = self.vae.encode(pictures.to(self.vae.dtype)).latent_dist
        return posterior.mean, posterior.logvar

    def decode(self, latents: Tensor) -> Tensor:
        """As `LatentCodec.decode`, in the precision of the VAE, which may be higher than the latents'."""
        own = latents.to(self.vae.dtype) / self.scaling_factor + self.shift
        return cast(Tensor, self.vae.decode(own, return_dict=False)[0])


def load_codec(files: ModelFiles) -> KLCodec:
    """That of a Stable Diffusion model: in float32 where its VAE overflows float16, as that of XL does."""
    from diffusers import AutoencoderKL

    vae = files.model("vae", AutoencoderKL)
    if vae.config.force_upcast and vae.dtype != torch.float32:
        vae = vae.to(torch.float32)
    return KLCodec(vae)


def shorter(size: int | Sequence[int]) -> int:
    """The shorter side of a size that diffusers writes as one number or as two."""
    return size if isinstance(size, int) else min(size)
