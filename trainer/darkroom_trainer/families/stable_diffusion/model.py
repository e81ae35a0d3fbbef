"""Loads a Stable Diffusion 1 or 2 model: one CLIP text encoder, whose last states the UNet attends to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from darkroom_trainer.families.autoencoder import KLCodec
from darkroom_trainer.families.clip import longest_prompt, token_ids
from darkroom_trainer.families.noise_prediction import load_objective, read_scheduler
from darkroom_trainer.families.protocols import BaseFiles, Conditions, LoadedBase

ENCODER = "text_encoder"


@dataclass(frozen=True)
class ClipConditioning:
    """As `Conditioning`: tokens are `tokens` (P, L), states are `states` (P, L, D)."""

    text_encoder: Any
    tokenizer: Any

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
        """As `Conditioning.untrainable`: none."""
        return ()

    @property
    def max_tokens(self) -> int:
        """As `Conditioning.max_tokens`."""
        return longest_prompt(self.tokenizer, self.text_encoder)

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

    def predict(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, conditions: Conditions
    ) -> Tensor:
        """As `Denoiser.predict`."""
        return cast(Tensor, network(noisy, timesteps, conditions["states"], return_dict=False)[0])


def load(files: BaseFiles) -> LoadedBase:
    """As `FamilyModel.load`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    return LoadedBase(
        objective=load_objective(
            files.folder / "scheduler", files.classes["scheduler"], files.device
        ),
        conditioning=ClipConditioning(
            text_encoder=files.model(ENCODER, CLIPTextModel),
            tokenizer=files.tokenizer("tokenizer", CLIPTokenizer),
        ),
        codec=KLCodec(files.model("vae", AutoencoderKL)),
        denoiser=UNetDenoiser(files.model("unet", UNet2DConditionModel)),
        device=files.device,
    )


def check_scheduler(folder: Path, class_name: str) -> None:
    """As `FamilyModel.check_scheduler`."""
    read_scheduler(folder, class_name)
