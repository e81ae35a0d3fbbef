"""The base model: text encoder and UNet, trained together on the latents of the world's pictures.

Epsilon prediction with Stable Diffusion's noise schedule; captions are dropped at times, so that
classifier-free guidance has its unconditional half.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from miniature.tokenizer import MAX_LENGTH
from miniature.training import to_model, train

BATCH: Final = 64
TEXT_WIDTH: Final = 96
CAPTION_DROPOUT: Final = 0.1
SNR_CAP: Final = 5.0
"""Min-SNR-gamma (Hang et al., 2023): steps with little noise weigh less."""


class TextAndUNet(nn.Module):
    """What is trained: tokens and noisy latents in, predicted noise out."""

    def __init__(self, vocabulary: int, end_token: int) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=TEXT_WIDTH,
                intermediate_size=4 * TEXT_WIDTH,
                projection_dim=TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=MAX_LENGTH,
                bos_token_id=end_token - 1,
                eos_token_id=end_token,
                pad_token_id=end_token,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 64, 128),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        for name, parameter in self.unet.named_parameters():
            if name.endswith("conv2.weight"):
                nn.init.zeros_(parameter)
        self.unet.to(memory_format=torch.channels_last)

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predicted noise: n x 4 x 16 x 16 from noisy latents of that shape, n timesteps, n x 16 tokens."""
        states = self.text_encoder(tokens).last_hidden_state
        predicted: Tensor = self.unet(noisy, timesteps, states).sample
        return predicted


@dataclass(frozen=True)
class LatentPool:
    """The training set, encoded once."""

    moments: Tensor
    """n x 8 x 16 x 16: posterior means and log-variances."""

    tokens: Tensor
    """n x 16 token ids."""


def scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.5's noise schedule, with the DDIM sampler."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@torch.no_grad()
def encode_pool(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, pixels: NDArray[np.uint8], captions: list[str]
) -> LatentPool:
    """Moments and tokens of a pool of pictures."""
    parts = [
        vae.encode(to_model(pixels[i : i + 64])).latent_dist.parameters
        for i in range(0, len(pixels), 64)
    ]
    return LatentPool(torch.cat(parts), tokenize(tokenizer, captions))


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids, padded to the tokenizer's length: n x 16."""
    ids: Tensor = tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    ).input_ids
    return ids


def train_base(
    pool: LatentPool, tokenizer: CLIPTokenizer, work: Path, seed: int, steps: int
) -> TextAndUNet:
    """Trains text encoder and UNet on a latent pool; returns their moving average."""
    torch.manual_seed(seed)
    model = TextAndUNet(len(tokenizer), int(tokenizer.eos_token_id))
    empty = tokenize(tokenizer, [""])
    signal = scheduler().alphas_cumprod

    def loss_of(step: int) -> Tensor:
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(len(pool.tokens), (BATCH,), generator=draw)
        mean, logvar = pool.moments[chosen].chunk(2, dim=1)
        clean = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=draw)
        dropped = torch.rand(BATCH, 1, generator=draw) < CAPTION_DROPOUT
        tokens = torch.where(dropped, empty, pool.tokens[chosen])
        timesteps = torch.randint(len(signal), (BATCH,), generator=draw)
        noise = torch.randn(clean.shape, generator=draw)
        kept = signal[timesteps].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        predicted: Tensor = model(noisy, timesteps, tokens)
        error = (predicted - noise).square().mean(dim=(1, 2, 3))
        snr = (kept / (1 - kept)).flatten()
        weighted: Tensor = error * snr.clamp(max=SNR_CAP) / snr
        return weighted.mean()

    state_file = work / "base.pt"
    trained = train(
        model, loss_of, state_file=state_file, steps=steps, muon=2e-3, adam=2e-3, ema=0.995
    )
    assert isinstance(trained, TextAndUNet)
    return trained


def pipeline(
    model: TextAndUNet, vae: AutoencoderKL, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as a diffusers pipeline."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
