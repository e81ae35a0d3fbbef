"""Compares the tensors of a component with those of its class: missing, wrong and left-over ones. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from darkroom_api.words import counted

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor, by its name."""

SHOWN: Final = 3
"""How many names a message lists."""

TEXT_PREFIX: Final = "text_model."
"""What transformers before version 5 put before the names of a CLIP text encoder."""

LANGUAGE_PREFIX: Final = "model."
"""What language models have before the names of all but their last layer."""

WORD_EMBEDDINGS: Final = "embeddings.token_embedding.weight"
"""A CLIP text encoder's embeddings of tokens, (tokens, width), without `TEXT_PREFIX`."""

_OLD_ATTENTION: Final = (
    (re.compile(r"\.query\."), ".to_q."),
    (re.compile(r"\.key\."), ".to_k."),
    (re.compile(r"\.value\."), ".to_v."),
    (re.compile(r"\.proj_attn\."), ".to_out.0."),
)
"""Names that diffusers before 0.15 gave to the VAE's attention, and loads still."""


@dataclass(frozen=True)
class Misfit:
    """How a component's tensors differ from those of its class; names as in the file."""

    missing: tuple[str, ...]
    wrong: tuple[str, ...]
    """Those of another shape, as `NAME is [2, 3], not [4, 3]`."""

    extra: tuple[str, ...]


def class_name_of(component: str, name: str) -> str:
    """What the class of today calls a tensor that a file may have under an older name."""
    if component == "text_encoder":
        return name.removeprefix(TEXT_PREFIX).removeprefix(LANGUAGE_PREFIX)
    if component == "vae" and ".attentions." in name:
        for old, new in _OLD_ATTENTION:
            name = old.sub(new, name)
    return name


def compare(component: str, expected: Shapes, found: Shapes) -> Misfit:
    """The differences between a class's tensors and a file's."""
    names = {class_name_of(component, name): name for name in found}
    return Misfit(
        missing=tuple(sorted(name for name in expected if name not in names)),
        wrong=tuple(
            f"{name} is {list(found[name])}, not {list(expected[plain])}"
            for plain, name in sorted(names.items())
            if plain in expected and tuple(expected[plain]) != found[name]
        ),
        extra=tuple(sorted(name for plain, name in names.items() if plain not in expected)),
    )


def in_words(names: Sequence[str], noun: str = "tensor") -> str:
    """The first few of some names and their number: `2 tensors: a, b`."""
    rest = f", … ({len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return f"{counted(len(names), noun)}: {', '.join(names[:SHOWN])}{rest}"
