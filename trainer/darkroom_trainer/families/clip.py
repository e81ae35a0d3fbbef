"""Prompts as the tokens of CLIP's text encoders."""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor


def token_ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """Token ids, (P, length), padded and cut to that length.

    A new token that has several embeddings is written out: `<sks> <sks>_1`, as diffusers' pipelines do.
    """
    from diffusers.loaders import TextualInversionLoaderMixin

    ids = tokenizer(
        TextualInversionLoaderMixin().maybe_convert_prompt(list(prompts), tokenizer),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return cast(Tensor, ids)


def longest_prompt(tokenizer: Any, encoder: Any) -> int:
    """Its tokens: a tokenizer that does not say it has 1e30."""
    return min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
