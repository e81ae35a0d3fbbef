"""Loads a Z-Image model: a transformer over patches of latents and the states of a frozen language model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darkroom_trainer.families.autoencoder import KLCodec
from darkroom_trainer.families.flow_matching import load_flow
from darkroom_trainer.families.protocols import BaseFiles, Conditions, LoadedBase
from darkroom_trainer.families.z_image.layout import MAX_TOKENS

ENCODER = "text_encoder"


@dataclass(frozen=True)
class LanguageConditioning:
    """As `Conditioning`: tokens are `ids` and `mask` (P, L), states are `states` (P, L, D) and `mask`."""

    text_encoder: Any
    """transformers' Qwen3Model, in the type that it is stored in: it is never trained."""

    tokenizer: Any
    max_tokens: int = MAX_TOKENS

    @property
    def encoders(self) -> Mapping[str, nn.Module]:
        """As `Conditioning.encoders`."""
        return {ENCODER: self.text_encoder}

    @property
    def tokenizers(self) -> Mapping[str, Any]:
        """As `Conditioning.tokenizers`."""
        return {ENCODER: self.tokenizer}

    @property
    def untrainable(self) -> Sequence[nn.Module]:
        """As `Conditioning.untrainable`: all of it."""
        return (self.text_encoder,)

    def tokens(self, prompts: Sequence[str]) -> Conditions:
        """As `Conditioning.tokens`: of each prompt as what a user says in a chat."""
        said = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=True,
            )
            for prompt in prompts
        ]
        found = self.tokenizer(
            said,
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        return {"ids": found.input_ids, "mask": found.attention_mask.bool()}

    def states(self, tokens: Conditions, encoders: Mapping[str, nn.Module]) -> Conditions:
        """As `Conditioning.states`: those before the last layer."""
        found = encoders[ENCODER](
            input_ids=tokens["ids"], attention_mask=tokens["mask"], output_hidden_states=True
        )
        return {"states": found.hidden_states[-2], "mask": tokens["mask"]}


@dataclass(frozen=True)
class TransformerDenoiser:
    """As `Denoiser`: diffusers' ZImageTransformer2DModel, which counts time backwards from 0 to 1."""

    network: nn.Module
    num_timesteps: int
    component: str = "transformer"

    def predict(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, conditions: Conditions
    ) -> Tensor:
        """As `Denoiser.predict`: it says the velocity towards the picture, we that towards the noise."""
        prompts = [
            states[mask]
            for states, mask in zip(conditions["states"], conditions["mask"], strict=True)
        ]
        time = (self.num_timesteps - timesteps) / self.num_timesteps
        pictures = list(noisy.unsqueeze(2).unbind(0))  # of one frame each
        said = network(pictures, time, prompts, return_dict=False)[0]
        return -torch.stack(list(said)).squeeze(2)


def load(files: BaseFiles) -> LoadedBase:
    """As `FamilyModel.load`."""
    from diffusers import AutoencoderKL, ZImageTransformer2DModel
    from transformers import Qwen2Tokenizer, Qwen3Model

    objective = load_flow(files.folder / "scheduler", files.classes["scheduler"])
    network = files.model("transformer", ZImageTransformer2DModel)
    return LoadedBase(
        objective=objective,
        conditioning=LanguageConditioning(
            text_encoder=files.model(ENCODER, Qwen3Model, as_stored=True),
            tokenizer=files.tokenizer("tokenizer", Qwen2Tokenizer),
        ),
        codec=KLCodec(files.model("vae", AutoencoderKL)),
        denoiser=TransformerDenoiser(network, objective.num_timesteps),
        device=files.device,
    )


def check_scheduler(folder: Path, class_name: str) -> None:
    """As `FamilyModel.check_scheduler`."""
    load_flow(folder, class_name)
