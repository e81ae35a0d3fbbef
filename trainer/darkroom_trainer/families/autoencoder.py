"""The latent codec of models with diffusers' AutoencoderKL."""

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor


@dataclass(frozen=True)
class KLCodec:
    """diffusers' AutoencoderKL in float32: in float16 that of Stable Diffusion XL overflows."""

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
        posterior = self.vae.encode(pictures).latent_dist
        return posterior.mean, posterior.logvar

    def decode(self, latents: Tensor) -> Tensor:
        """As `LatentCodec.decode`."""
        own = latents / self.scaling_factor + self.shift
        return cast(Tensor, self.vae.decode(own, return_dict=False)[0])
