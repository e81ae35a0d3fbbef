"""Stable Diffusion XL: two CLIP text encoders and the size of the picture as conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from darkroom_sampling.autoencoder import load_codec
from darkroom_sampling.clip import count_tokens, longest_prompt, token_ids
from darkroom_sampling.family import Family
from darkroom_sampling.model import DiffusionModel, read_scheduler_config
from darkroom_sampling.protocols import CROPS, Conditions, ModelFiles
from darkroom_sampling.samplers import samplers_of_noise

FIRST, SECOND = "text_encoder", "text_encoder_2"


@dataclass(frozen=True)
class TwoClipConditioning:
    """As `Conditioning`: tokens are `text_encoder` and `text_encoder_2` (P, L) and `given` (P,).

    States are `states` (P, L, D), those of both beside each other, and `pooled` (P, D2) of the second.
    """

    text_encoder: Any
    text_encoder_2: Any
    tokenizer: Any
    tokenizer_2: Any

    empty_is_zero: bool
    """Whether the states of an empty prompt are zeros: diffusers' `force_zeros_for_empty_prompt`."""

    @property
    def encoders(self) -> Mapping[str, nn.Module]:
        """As `Conditioning.encoders`."""
        return {FIRST: self.text_encoder, SECOND: self.text_encoder_2}

    @property
    def tokenizers(self) -> Mapping[str, Any]:
        """As `Conditioning.tokenizers`."""
        return {FIRST: self.tokenizer, SECOND: self.tokenizer_2}

    @property
    def untrainable(self) -> Sequence[nn.Module]:
        """As `Conditioning.untrainable`: what comes after the states that are taken of the first encoder."""
        return (self.text_encoder.encoder.layers[-1], self.text_encoder.final_layer_norm)

    @property
    def max_tokens(self) -> int:
        """As `Conditioning.max_tokens`."""
        return min(
            longest_prompt(self.tokenizer, self.text_encoder),
            longest_prompt(self.tokenizer_2, self.text_encoder_2),
        )

    def count_tokens(self, prompt: str) -> int:
        """As `Conditioning.count_tokens`, by the first tokenizer."""
        return count_tokens(self.tokenizer, prompt)

    def tokens(self, prompts: Sequence[str]) -> Conditions:
        """As `Conditioning.tokens`."""
        given = [bool(prompt) or not self.empty_is_zero for prompt in prompts]
        return {
            FIRST: token_ids(self.tokenizer, prompts, self.max_tokens),
            SECOND: token_ids(self.tokenizer_2, prompts, self.max_tokens),
            "given": torch.tensor(given),
        }

    def states(self, tokens: Conditions, encoders: Mapping[str, nn.Module]) -> Conditions:
        """As `Conditioning.states`: of both encoders the states before the last layer."""
        first = encoders[FIRST](tokens[FIRST], output_hidden_states=True)
        second = encoders[SECOND](tokens[SECOND], output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        pooled = second.text_embeds
        given = tokens["given"][:, None]
        return {"states": states * given[..., None], "pooled": pooled * given}


@dataclass(frozen=True)
class SizedUNetDenoiser:
    """As `Denoiser`: a UNet that is told how large the picture is, and what of it was cropped away."""

    network: nn.Module

    latent_scale: int
    """Pixels along a side of a latent's cell."""

    component: str = "unet"
    patch_size: int = 1

    def predict(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, conditions: Conditions
    ) -> Tensor:
        """As `Denoiser.predict`."""
        size = [side * self.latent_scale for side in noisy.shape[-2:]]
        whole = torch.tensor([[*size, 0, 0, *size]], dtype=noisy.dtype, device=noisy.device)
        crops = conditions.get(CROPS, whole.expand(len(noisy), -1))
        added = {"text_embeds": conditions["pooled"], "time_ids": crops}
        predicted = network(
            noisy,
            timesteps,
            conditions["states"],
            added_cond_kwargs=added,
            return_dict=False,
        )
        return cast(Tensor, predicted[0])


def load(files: ModelFiles) -> DiffusionModel:
    """As `Family.load`."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    codec = load_codec(files)
    config = read_scheduler_config(files)
    return DiffusionModel(
        conditioning=TwoClipConditioning(
            text_encoder=files.model(FIRST, CLIPTextModel),
            text_encoder_2=files.model(SECOND, CLIPTextModelWithProjection),
            tokenizer=files.tokenizer("tokenizer", CLIPTokenizer),
            tokenizer_2=files.tokenizer("tokenizer_2", CLIPTokenizer),
            empty_is_zero=bool(files.index.get("force_zeros_for_empty_prompt", True)),
        ),
        codec=codec,
        denoiser=SizedUNetDenoiser(files.model("unet", UNet2DConditionModel), codec.latent_scale),
        samplers=samplers_of_noise(config),
        scheduler_config=config,
        device=files.device,
        dtype=files.dtype,
    )


FAMILY: Final = Family(
    pipeline="StableDiffusionXLPipeline", half_precision=torch.float16, load=load
)
