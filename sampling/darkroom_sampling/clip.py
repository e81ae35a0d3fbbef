"""Prompts as the tokens of CLIP's text encoders."""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor


def token_ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """Token ids, (P, length), padded and cut to that length."""
    ids = tokenizer(
        [with_all_vectors(prompt, tokenizer) for prompt in prompts],
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return cast(Tensor, ids)


def count_tokens(tokenizer: Any, prompt: str) -> int:
    """Tokens of a prompt, with the begin and end tokens."""
    return len(tokenizer(with_all_vectors(prompt, tokenizer), verbose=False).input_ids)


def with_all_vectors(prompt: str, tokenizer: Any) -> str:
    """A prompt in which a new token with several embeddings is written out: `<sks> <sks>_1`, as diffusers does."""
    from diffusers.loaders import TextualInversionLoaderMixin

    return str(TextualInversionLoaderMixin().maybe_convert_prompt(prompt, tokenizer))


def longest_prompt(tokenizer: Any, encoder: Any) -> int:
    """Its tokens: a tokenizer that does not say it has 1e30."""
    return min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
