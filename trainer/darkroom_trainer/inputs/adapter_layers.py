"""Which layers of a model get an adapter, and how large it is: from names and shapes of tensors. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from darkroom_api.training import LoraTargets

WEIGHT: Final = ".weight"

_ATTENTION: Final = r"to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out|[qkv]_proj|out_proj"
_FEED_FORWARD: Final = r"ff(_context)?\.net\.(0\.proj|2)|feed_forward\.w[123]|fc[12]"

_TARGETS: Final = {
    LoraTargets.ATTENTION: re.compile(rf"(^|\.)({_ATTENTION})$"),
    LoraTargets.ATTENTION_AND_FEED_FORWARD: re.compile(rf"(^|\.)({_ATTENTION}|{_FEED_FORWARD})$"),
}
"""How diffusers and transformers call those layers, in UNets, transformers and CLIP's text encoders."""


def adapter_layers(
    shapes: Mapping[str, tuple[int, ...]], targets: LoraTargets
) -> dict[str, tuple[int, int]]:
    """The linear layers that get an adapter: their names, and the numbers (out, in) of each, in that order."""
    found = {}
    for name, shape in shapes.items():
        layer = name.removesuffix(WEIGHT)
        if name.endswith(WEIGHT) and len(shape) == 2 and _TARGETS[targets].search(layer):
            found[layer] = (shape[0], shape[1])
    return found


def adapter_parameters(layers: Mapping[str, tuple[int, int]], rank: int) -> int:
    """Numbers in the adapters of some layers: for each one of them (rank, in) and (out, rank)."""
    return sum(rank * (outputs + inputs) for outputs, inputs in layers.values())


def narrowest(layers: Mapping[str, tuple[int, int]]) -> tuple[str, int]:
    """The layer that allows the smallest rank, and that: a product of wider ones would be no adapter."""
    name = min(layers, key=lambda layer: min(layers[layer]))
    return name, min(layers[name])
