"""The autoencoder: pictures of 64 x 64 to latents of 16 x 16 with 4 channels, and back.

Trained on the world's pictures and on colour-shifted ones mixed with smooth random textures, so that it
also draws what the world does not show: a teal dog with purple spots, or a photograph.
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from miniature.training import to_model, train

BATCH: Final = 12
KL_WEIGHT: Final = 3e-4
LOGVAR_BIAS: Final = -6.0
"""Initial posterior log-variance: starts as a plain autoencoder, which learns faster."""


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder: factor 4, 4 latent channels, residual blocks that start as identities."""
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
    )
    for name, parameter in vae.named_parameters():
        if name.endswith("conv2.weight") and "resnets" in name:
            torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        vae.quant_conv.bias[4:].fill_(LOGVAR_BIAS)
        vae.quant_conv.weight[4:].mul_(0.1)
    return vae.to(memory_format=torch.channels_last)


def train_vae(pixels: NDArray[np.uint8], work: Path, seed: int, steps: int) -> AutoencoderKL:
    """Trains on a pool of pictures and returns the autoencoder with whitened latents."""
    torch.manual_seed(seed)
    vae = new_vae()

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng((seed, 1, step))
        target = augmented(to_model(pixels[rng.integers(len(pixels), size=BATCH)]), rng)
        target = target.contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=_generator(seed, step))
        made = vae.decode(posterior.mean + posterior.std * noise).sample
        divergence: Tensor = posterior.kl().mean() / 256
        return reconstruction_loss(made, target) + KL_WEIGHT * divergence

    trained = train(
        vae, loss_of, state_file=work / "vae.pt", steps=steps, muon=4e-3, adam=4e-3, ema=0.99
    )
    whiten(trained, to_model(pixels[:1024]))
    return trained


def reconstruction_loss(made: Tensor, target: Tensor) -> Tensor:
    """L1 + L2 + the same on edges and on coarse cells; pictures are n x 3 x height x width in -1..1."""
    pixel = F.l1_loss(made, target) + F.mse_loss(made, target)
    edge = F.l1_loss(made.diff(dim=-1), target.diff(dim=-1)) + F.l1_loss(
        made.diff(dim=-2), target.diff(dim=-2)
    )
    coarse = F.l1_loss(F.avg_pool2d(made, 4), F.avg_pool2d(target, 4))
    return pixel + 0.5 * edge + 0.5 * coarse


def augmented(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the pictures as they are, a quarter with shuffled colours, a quarter mixed with texture."""
    pictures = pictures.clone()
    quarter = len(pictures) // 4
    for i in range(quarter):
        pictures[i] = pictures[i, torch.from_numpy(rng.permutation(3))]
    coarse = torch.from_numpy(rng.normal(size=(quarter, 3, 12, 12)).astype(np.float32))
    texture = F.interpolate(coarse, size=pictures.shape[-2:], mode="bicubic").clamp(-1, 1)
    share = torch.from_numpy(rng.uniform(0.2, 0.8, (quarter, 1, 1, 1)).astype(np.float32))
    mixed = pictures[quarter : 2 * quarter]
    pictures[quarter : 2 * quarter] = mixed * (1 - share) + texture * share
    return pictures


@torch.no_grad()
def whiten(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Gives latents mean 0 and covariance 1 by folding a 4 x 4 matrix into the 1 x 1 convolutions.

    Exact for the means. The log-variances become the average channel's, shifted by the matrix' scale:
    they are so small (LOGVAR_BIAS) that what matters is their order of magnitude.
    """
    means = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(pictures, 64)])
    flat = means.permute(1, 0, 2, 3).flatten(1).double()
    centre = flat.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    forward = (vectors * values.rsqrt()) @ vectors.T
    backward = (vectors * values.sqrt()) @ vectors.T
    quant, post = vae.quant_conv, vae.post_quant_conv
    weight, bias = quant.weight[:, :, 0, 0].double(), quant.bias.double()
    scale = forward.square().sum(1).log()
    new_weight = torch.cat([forward @ weight[:4], weight[4:].mean(0).expand(4, -1)])
    new_bias = torch.cat([forward @ (bias[:4] - centre), bias[4:].mean() + scale])
    quant.weight.copy_(new_weight[:, :, None, None].float())
    quant.bias.copy_(new_bias.float())
    kernel = post.weight[:, :, 0, 0].double()
    post.bias.copy_((post.bias.double() + kernel @ centre).float())
    post.weight.copy_((kernel @ backward)[:, :, None, None].float())


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: Tensor) -> float:
    """Peak signal-to-noise ratio of reconstructions in dB; pictures are n x 3 x height x width in -1..1."""
    made = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
    return float(10 * torch.log10(4 / F.mse_loss(made, pictures)))


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
