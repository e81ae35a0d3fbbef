"""What a denoiser is told of a prompt: by one CLIP text encoder, or by the two of Stable Diffusion XL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Conditions = Mapping[str, Tensor]
"""Of B prompts, by name: `states` (B, L, D) and what else a model is told."""


class PromptReader(Protocol):
    """What makes conditions of prompts."""

    @property
    def max_tokens(self) -> int:
        """Longest prompt in tokens, with the begin and end tokens."""
        ...

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, with the begin and end tokens."""
        ...

    def read(self, prompt: str, device: torch.device) -> Conditions:
        """The conditions of one prompt; what is too long is cut off."""
        ...


@dataclass(frozen=True)
class ClipReader:
    """As `PromptReader`: one CLIP tokenizer and text encoder, or two of each."""

    tokenizers: Sequence[Any]
    encoders: Sequence[Any]

    empty_is_zero: bool
    """Whether two encoders are left out for an empty prompt: diffusers' `force_zeros_for_empty_prompt`."""

    @property
    def max_tokens(self) -> int:
        """As `PromptReader.max_tokens`."""
        return min(
            min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
            for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True)
        )

    def count_tokens(self, prompt: str) -> int:
        """As `PromptReader.count_tokens`."""
        tokenizer = self.tokenizers[0]
        return len(tokenizer(with_all_vectors(prompt, tokenizer), verbose=False).input_ids)

    def read(self, prompt: str, device: torch.device) -> Conditions:
        """As `PromptReader.read`."""
        if len(self.encoders) == 1:
            return {"states": self.encoders[0](self._ids(0, prompt, device))[0]}
        first, second = (
            encoder(self._ids(number, prompt, device), output_hidden_states=True)
            for number, encoder in enumerate(self.encoders)
        )
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        found = {"states": states, "pooled": second.text_embeds}
        if prompt or not self.empty_is_zero:
            return found
        return {name: torch.zeros_like(values) for name, values in found.items()}

    def _ids(self, number: int, prompt: str, device: torch.device) -> Tensor:
        tokenizer = self.tokenizers[number]
        ids: Tensor = tokenizer(
            with_all_vectors(prompt, tokenizer),
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids.to(device)


def with_all_vectors(prompt: str, tokenizer: Any) -> str:
    """A prompt in which a new token with several embeddings is written out: `<sks> <sks>_1`, as diffusers does."""
    from diffusers.loaders import TextualInversionLoaderMixin

    return str(TextualInversionLoaderMixin().maybe_convert_prompt(prompt, tokenizer))
