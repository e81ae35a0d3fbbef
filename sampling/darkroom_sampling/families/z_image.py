"""Z-Image: a transformer over patches of latents that matches flows, told of prompts by a language model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from darkroom_sampling.autoencoder import KLCodec
from darkroom_sampling.family import Family
from darkroom_sampling.limits import Z_IMAGE_TOKENS
from darkroom_sampling.model import DiffusionModel, num_timesteps, read_scheduler_config
from darkroom_sampling.protocols import Conditions, ModelFiles
from darkroom_sampling.samplers import FLOW_SPECS
from darkroom_sampling.text_encoder import ENCODER, OneTextEncoder


@dataclass(frozen=True)
class LanguageConditioning(OneTextEncoder):
    """As `Conditioning`: tokens are `ids` and `mask` (P, L), states are `states` (P, L, D) and `mask`.

    The encoder is transformers' Qwen3Model, which is never trained.
    """

    max_tokens: int = Z_IMAGE_TOKENS

    @property
    def untrainable(self) -> Sequence[nn.Module]:
        """As `Conditioning.untrainable`: all of it."""
        return (self.text_encoder,)

    def count_tokens(self, prompt: str) -> int:
        """As `Conditioning.count_tokens`, with those of the chat."""
        return len(self.tokenizer(self._said(prompt), verbose=False).input_ids)

    def tokens(self, prompts: Sequence[str]) -> Conditions:
        """As `Conditioning.tokens`: of each prompt as what a user says in a chat."""
        found = self.tokenizer(
            [self._said(prompt) for prompt in prompts],
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

    def _said(self, prompt: str) -> str:
        said: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )
        return said


@dataclass(frozen=True)
class TransformerDenoiser:
    """As `Denoiser`: diffusers' ZImageTransformer2DModel, which counts time backwards from 0 to 1."""

    network: Any
    num_timesteps: int
    component: str = "transformer"

    @property
    def patch_size(self) -> int:
        """As `Denoiser.patch_size`."""
        (patch,) = self.network.config.all_patch_size
        return int(patch)

    def predict(
        self, network: nn.Module, noisy: Tensor, timesteps: Tensor, conditions: Conditions
    ) -> Tensor:
        """As `Denoiser.predict`: it says the velocity towards the picture, samplers want that towards the noise."""
        prompts = [
            states[mask]
            for states, mask in zip(conditions["states"], conditions["mask"], strict=True)
        ]
        time = (self.num_timesteps - timesteps) / self.num_timesteps
        pictures = list(noisy.unsqueeze(2).unbind(0))  # of one frame each
        said = network(pictures, time, prompts, return_dict=False)[0]
        return -torch.stack(list(said)).squeeze(2)


def load(files: ModelFiles) -> DiffusionModel:
    """As `Family.load`."""
    from diffusers import AutoencoderKL, ZImageTransformer2DModel
    from transformers import Qwen2Tokenizer, Qwen3Model

    config = read_scheduler_config(files)
    network = files.model("transformer", ZImageTransformer2DModel)
    return DiffusionModel(
        conditioning=LanguageConditioning(
            text_encoder=files.model(ENCODER, Qwen3Model, never_trained=True),
            tokenizer=files.tokenizer("tokenizer", Qwen2Tokenizer),
        ),
        codec=KLCodec(files.model("vae", AutoencoderKL)),
        denoiser=TransformerDenoiser(network, num_timesteps(config)),
        samplers=FLOW_SPECS,
        scheduler_config=config,
        device=files.device,
        dtype=files.dtype,
    )


FAMILY: Final = Family(
    pipeline="ZImagePipeline",
    # float16 does not hold what a language model has in between.
    half_precision=torch.bfloat16,
    load=load,
)
