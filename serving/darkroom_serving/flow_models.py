"""Loads Z-Image: a transformer that matches flows, told of prompts by a language model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from darkroom_serving.loading import LoadedModel
from darkroom_serving.prompts import Conditions
from darkroom_serving.samplers import FLOW_SPECS

PIPELINE: Final = "ZImagePipeline"
"""The class of pipeline that such a model names."""

MAX_TOKENS: Final = 512
"""What diffusers' pipeline cuts prompts to."""


@dataclass(frozen=True)
class ChatReader:
    """As `PromptReader`: a prompt is what a user says to a language model."""

    tokenizer: Any
    encoder: Any
    max_tokens: int = MAX_TOKENS

    def count_tokens(self, prompt: str) -> int:
        """As `PromptReader.count_tokens`, with those of the chat."""
        return len(self.tokenizer(self._said(prompt), verbose=False).input_ids)

    def read(self, prompt: str, device: torch.device) -> Conditions:
        """The states before the last layer, `states` (1, L, D), without padding."""
        found = self.tokenizer(
            self._said(prompt),
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        mask = found.attention_mask.bool().to(device)
        states = self.encoder(
            input_ids=found.input_ids.to(device), attention_mask=mask, output_hidden_states=True
        ).hidden_states[-2]
        return {"states": states, "mask": mask}

    def _said(self, prompt: str) -> str:
        said: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )
        return said


@dataclass(frozen=True, kw_only=True)
class FlowModel(LoadedModel):
    """As `LoadedModel`; its denoiser is a transformer, which counts time backwards from 0 to 1."""

    sampler_specs = FLOW_SPECS

    @property
    def side_step(self) -> int:
        """As `LoadedModel.side_step`: the side of a patch of latents."""
        (patch,) = self.denoiser.config.all_patch_size
        return self.latent_scale * int(patch)

    @property
    def native_side(self) -> int:
        """As `LoadedModel.native_side`: its VAE's."""
        return int(self.vae.config.sample_size)

    def predict(self, timestep: Any, latents: Tensor, conditions: Conditions) -> Tensor:
        """As `LoadedModel.predict`: it says the velocity towards the picture, samplers want the other one."""
        prompts = [
            states[mask]
            for states, mask in zip(conditions["states"], conditions["mask"], strict=True)
        ]
        time = ((self.max_steps - timestep) / self.max_steps).expand(len(latents))
        pictures = list(latents.to(self.dtype).unsqueeze(2).unbind(0))
        said = self.denoiser(pictures, time, prompts, return_dict=False)[0]
        return -torch.stack(list(said)).squeeze(2)


def load_flow_model(folder: Path, device: torch.device) -> FlowModel:
    """As `load_model`, in bfloat16 on a GPU: float16 does not hold what a language model has in between."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
    from transformers import Qwen2Tokenizer, Qwen3Model

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    options = {"use_safetensors": True, "dtype": dtype, "local_files_only": True}
    network = ZImageTransformer2DModel.from_pretrained(folder / "transformer", **options)
    vae = AutoencoderKL.from_pretrained(folder / "vae", **options)
    encoder = Qwen3Model.from_pretrained(folder / "text_encoder", **options)
    for part in (network, vae, encoder):
        part.to(device).eval().requires_grad_(False)
    config = FlowMatchEulerDiscreteScheduler.load_config(
        folder / "scheduler", local_files_only=True
    )
    tokenizer = Qwen2Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return FlowModel(
        denoiser=network,
        vae=vae,
        prompts=ChatReader(tokenizer, encoder),
        scheduler_config=dict(config),
        safety=None,
        device=device,
        dtype=dtype,
    )
