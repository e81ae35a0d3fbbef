"""Stable Diffusion 1 and 2: one CLIP text encoder, whose last states the UNet attends to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn

from darkroom_sampling.autoencoder import load_codec
from darkroom_sampling.clip import count_tokens, longest_prompt, token_ids
from darkroom_sampling.family import Family
from darkroom_sampling.model import DiffusionModel, read_scheduler_config
from darkroom_sampling.protocols import Conditions, ModelFiles
from darkroom_sampling.samplers import samplers_of_noise
from darkroom_sampling.text_encoder import ENCODER, OneTextEncoder


@dataclass(frozen=True)
class ClipConditioning(OneTextEncoder):
    """As `Conditioning`: tokens are `tokens` (P, L), states are `states` (P, L, D)."""

    @property
    def untrainable(self) -> Sequence[nn.Module]:
        """As `Conditioning.untrainable`: none."""
        return ()

    @property
    def max_tokens(self) -> int:
        """As `Conditioning.max_tokens`."""
        return longest_prompt(self.tokenizer, self.text_encoder)

    def count_tokens(self, prompt: str) -> int:
        """As `Conditioning.count_tokens`."""
        return count_tokens(self.tokenizer, prompt)

    def tokens(self, prompts: Sequence[str]) -> Conditions:
        """As `Conditioning.tokens`."""
        return {"tokens": token_ids(self.tokenizer, prompts, self.max_tokens)}

    def states(self, tokens: Conditions, encoders: Mapping[str, nn.Module]) -> Conditions:
        """As `Conditioning.states`."""
        return {"states": encoders[ENCODER](tokens["tokens"])[0]}


@dataclass(frozen=True)
class UNetDenoiser:
    """As `Denoiser`: diffusers' UNet2DConditionModel."""

    network: nn.Module
    component: str = "unet"
    patch_size: int = 1

    def predict(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, conditions: Conditions
    ) -> Tensor:
        """As `Denoiser.predict`."""
        return cast(Tensor, network(noisy, timesteps, conditions["states"], return_dict=False)[0])


def load(files: ModelFiles) -> DiffusionModel:
    """As `Family.load`."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    config = read_scheduler_config(files)
    return DiffusionModel(
        conditioning=ClipConditioning(
            text_encoder=files.model(ENCODER, CLIPTextModel),
            tokenizer=files.tokenizer("tokenizer", CLIPTokenizer),
        ),
        codec=load_codec(files),
        denoiser=UNetDenoiser(files.model("unet", UNet2DConditionModel)),
        samplers=samplers_of_noise(config),
        scheduler_config=config,
        device=files.device,
        dtype=files.dtype,
    )


FAMILY: Final = Family(pipeline="StableDiffusionPipeline", half_precision=torch.float16, load=load)
