"""Reads an adapter: what a file of LoRA weights adds to the layers of each network, checked against them."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv2d
"""What an adapter can change."""

_METADATA: Final = "lora_adapter_metadata"
"""Entry of the file's header in which diffusers keeps peft's configurations, as JSON."""

_DOWN: Final = "down"
_UP: Final = "up"

_SPELLINGS: Final = {
    "lora_A": _DOWN,
    "lora_B": _UP,
    "lora.down": _DOWN,
    "lora.up": _UP,
    "lora_linear_layer.down": _DOWN,
    "lora_linear_layer.up": _UP,
}
"""How peft and diffusers (for UNets, for text encoders) call the two tensors of a layer."""

_KEY: Final = re.compile(
    rf"(?P<component>\w+)\.(?P<layer>.+)\.(?P<part>{'|'.join(map(re.escape, _SPELLINGS))})\.weight"
)

_OLD_TEXT_PREFIX: Final = "text_model."
"""Before the names of layers of text encoders in files; transformers 5 has them without."""


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to one layer: `up @ (down @ x)`; float32 on the CPU."""

    down: Tensor
    """(r, in) of a linear layer; (r, in, h, w) of a convolution, which has the layer's stride and padding."""

    up: Tensor
    """(out, r), times the adapter's own scale: alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv 2312.03732)."""

    @property
    def rank(self) -> int:
        """The r of both."""
        return self.up.shape[1]


Updates = Mapping[str, LowRank]
"""What an adapter adds to a network, by the name of the layer."""


def read_adapter(file: Path, networks: Mapping[str, nn.Module]) -> dict[str, Updates]:
    """What an adapter adds to each network; networks by the name of their component, such as `unet`.

    The file has the keys of diffusers' `save_lora_weights`. Raises ValueError, which names the key, for what
    the networks have no place for: a component, layer or shape that is not theirs, a rank above a layer's
    sides, a tensor without its partner, and for numbers that are not finite. Raises OSError without the file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            configs = _configs(opened.metadata() or {})
            return _read(opened, networks, configs)
    except SafetensorError as error:
        raise ValueError(f"{file.name} is no file of safetensors: {error}") from error


def _read(
    opened: Any, networks: Mapping[str, nn.Module], configs: Mapping[str, Any]
) -> dict[str, Updates]:
    pairs: dict[tuple[str, str], dict[str, str]] = {}
    for key in opened.keys():  # noqa: SIM118 - safetensors' handle is no mapping
        component, layer, part = _parsed(key, networks)
        pairs.setdefault((component, layer), {})[part] = key
    updates: dict[str, dict[str, LowRank]] = {component: {} for component in networks}
    for (component, name), keys in pairs.items():
        changed = _layer(networks[component], name, next(iter(keys.values())))
        scale = partial(_scale, configs, component, name)
        updates[component][name] = _low_rank(opened, keys, changed, scale)
    return dict(updates)


def _parsed(key: str, networks: Mapping[str, nn.Module]) -> tuple[str, str, str]:
    """Component, name of the layer in the network, and which of its two tensors it is."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError(f"{key}: is no LoRA weight as diffusers names them")
    component, layer = found["component"], found["layer"]
    if component not in networks:
        raise ValueError(f"{key}: the base has no {component}, only {', '.join(networks)}")
    if not hasattr(networks[component], _OLD_TEXT_PREFIX.rstrip(".")):
        layer = layer.removeprefix(_OLD_TEXT_PREFIX)
    return component, layer, _SPELLINGS[found["part"]]


def _layer(network: nn.Module, name: str, key: str) -> Layer:
    try:
        layer = network.get_submodule(name)
    except AttributeError:
        raise ValueError(f"{key}: the base has no such layer") from None
    if isinstance(layer, nn.Linear):
        return layer
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        return layer
    raise ValueError(f"{key}: the base's layer is neither linear nor a plain convolution")


def _low_rank(
    opened: Any, keys: Mapping[str, str], layer: Layer, scale: Callable[[int], float]
) -> LowRank:
    """A layer's two tensors; their shapes are looked at before they are read. `scale` is told the rank."""
    for part in (_DOWN, _UP):
        if part not in keys:
            raise ValueError(f"{next(iter(keys.values()))}: the layer's {part} weight is missing")
    rank = _checked_rank(
        {key: opened.get_slice(key).get_shape() for key in keys.values()}, keys, layer
    )
    down, up = (opened.get_tensor(keys[part]).to(torch.float32) for part in (_DOWN, _UP))
    read = LowRank(down, up.flatten(1) * scale(rank))
    for part, tensor in ((_DOWN, read.down), (_UP, read.up)):
        # In the network's precision: float16 ends at 65504.
        if not tensor.to(layer.weight.dtype).isfinite().all():
            raise ValueError(
                f"{keys[part]}: has numbers that are not finite in {layer.weight.dtype}"
            )
    return read


def _checked_rank(
    shapes: Mapping[str, Sequence[int]], keys: Mapping[str, str], layer: Layer
) -> int:
    """The rank of a layer's two tensors, by key; raises ValueError unless they fit the layer."""
    outputs, *inputs = layer.weight.shape
    down, up = tuple(shapes[keys[_DOWN]]), tuple(shapes[keys[_UP]])
    rank = down[0] if down else 0
    if down != (rank, *inputs):
        raise ValueError(f"{keys[_DOWN]}: has shape {down}, and the base takes {('r', *inputs)}")
    if up != (outputs, rank, *[1] * (len(inputs) - 1)):
        raise ValueError(
            f"{keys[_UP]}: has shape {up}; the base has {outputs} outputs, and r is {rank}"
        )
    if not 0 < rank <= min(outputs, math.prod(inputs)):
        raise ValueError(
            f"{keys[_DOWN]}: has rank {rank}, and the base's layer allows 1 to"
            f" {min(outputs, math.prod(inputs))}"
        )
    return rank


def _configs(header: Mapping[str, str]) -> Mapping[str, Any]:
    """Peft's configurations by component and field, such as `unet.lora_alpha`; empty without any."""
    try:
        configs = json.loads(header.get(_METADATA, "{}"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{_METADATA}: is no JSON: {error}") from error
    if not isinstance(configs, dict):
        raise ValueError(f"{_METADATA}: is no JSON object")
    return configs


def _scale(configs: Mapping[str, Any], component: str, layer: str, rank: int) -> float:
    """The adapter's own scale at a layer; 1 without a configuration, as in diffusers."""
    from peft.utils.other import get_pattern_key

    if not any(field.startswith(f"{component}.") for field in configs):
        return 1.0
    alphas = configs.get(f"{component}.alpha_pattern") or {}
    alpha = alphas.get(get_pattern_key(alphas, layer), configs.get(f"{component}.lora_alpha"))
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ValueError(f"{_METADATA}: {component}.lora_alpha is {alpha!r}, and must be a number")
    return alpha / (math.sqrt(rank) if configs.get(f"{component}.use_rslora") else rank)
