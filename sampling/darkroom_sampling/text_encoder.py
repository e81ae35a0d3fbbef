"""What is the same wherever one text encoder reads prompts, whichever it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

ENCODER: Final = "text_encoder"
"""Name of the component."""


@dataclass(frozen=True)
class OneTextEncoder:
    """A part of `Conditioning`: the one encoder and its tokenizer."""

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
