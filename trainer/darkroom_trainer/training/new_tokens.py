"""New tokens for the identifier (textual inversion): in the tokenizer, and as embeddings beside the frozen ones."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom_api.job import PersonalizationJobSpec
from darkroom_trainer.families.protocols import LoadedBase
from darkroom_trainer.inputs.base.prompts import new_token_names


class ExtendedEmbedding(nn.Module):
    """A frozen table of embeddings, and those of new tokens, which alone are trained.

    The rows of the table are none of the parameters that an optimizer sees: not even weight decay
    moves them.
    """

    def __init__(self, table: nn.Module, new: Tensor, first_id: int) -> None:
        """`new` has the embeddings, (N, D), of the tokens from `first_id` on."""
        super().__init__()
        self.table = table
        self.new = nn.Parameter(new)
        self.first_id = first_id

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings, (P, L, D), of token ids (P, L)."""
        is_new = ids >= self.first_id
        old: Tensor = self.table(ids.masked_fill(is_new, 0))
        new = F.embedding((ids - self.first_id).clamp(min=0), self.new)
        return torch.where(is_new[..., None], new, old)


def add_new_tokens(base: LoadedBase, spec: PersonalizationJobSpec) -> None:
    """Adds a job's new tokens, if it has any, to the tokenizers and text encoders of a base, in place."""
    tokens = spec.training.added_tokens
    if tokens is None:
        return
    names = new_token_names(spec)
    for name, encoder in base.conditioning.encoders.items():
        tokenizer = base.conditioning.tokenizers[name]
        _extend(encoder, tokenizer, names, tokens.initializer or spec.subject.class_noun)


def _extend(encoder: Any, tokenizer: Any, names: list[str], word: str) -> None:
    table = encoder.get_input_embeddings()
    start = table.weight[tokenizer(word, add_special_tokens=False).input_ids].mean(dim=0)
    added = tokenizer.add_tokens(names)
    ids = tokenizer.convert_tokens_to_ids(names)
    assert added == len(names), f"the base was let through with a token {names[0]}"
    assert ids == list(range(ids[0], ids[0] + len(ids))), "new tokens come one after another"
    new = start.detach().repeat(len(names), 1)
    encoder.set_input_embeddings(ExtendedEmbedding(table, new, ids[0]))


def new_embeddings(module: nn.Module) -> Iterator[nn.Parameter]:
    """The embeddings of new tokens in a module."""
    for part in module.modules():
        if isinstance(part, ExtendedEmbedding):
            yield part.new
