"""LoRA's adapters in a network, by peft: put in, and left out for as long as the base itself is asked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from darkroom_api.training import Lora
from darkroom_trainer.inputs.adapter_layers import adapter_layers
from darkroom_trainer.training.streams import Stream, normal

ADAPTER = "default"
"""Peft's own name for the only adapter of a network."""


def add_adapters(parts: Sequence[nn.Module], lora: Lora, seed: int) -> None:
    """Puts adapters beside those layers of some parts of a base that have gradients, in place.

    They begin as nothing: B is 0. A is normal with a deviation of 1 / rank, as in diffusers' scripts, and
    drawn by its number among all layers, whatever else was drawn before.
    """
    number = 0
    for part in parts:
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in part.named_parameters()
            if tensor.requires_grad
        }
        layers = adapter_layers(shapes, lora.targets)
        config = LoraConfig(r=lora.rank, lora_alpha=lora.scaled_alpha, target_modules=list(layers))
        inject_adapter_in_model(config, part, adapter_name=ADAPTER)
        for layer in layers:
            _begin(part.get_submodule(layer), seed, number)
            number += 1


@torch.no_grad()
def _begin(layer: nn.Module, seed: int, number: int) -> None:
    assert isinstance(layer, LoraLayer)
    narrow, wide = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    rank = narrow.shape[0]
    narrow.copy_(normal(seed, Stream.ADAPTER, 0, [number], narrow.shape)[0] / rank)
    wide.zero_()


def adapter_weights(module: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of all adapters in a module."""
    for layer in module.modules():
        if isinstance(layer, LoraLayer):
            yield layer.lora_A[ADAPTER].weight
            yield layer.lora_B[ADAPTER].weight


@contextmanager
def without_adapters(network: nn.Module) -> Iterator[None]:
    """Within, a network is that of the base; one without adapters is that anyway."""
    layers = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
