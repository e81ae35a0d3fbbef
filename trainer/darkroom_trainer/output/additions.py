"""Writes what goes on a base model: adapters and embeddings of new tokens, in the files that diffusers looks for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors.torch import save_file
from torch import Tensor

from darkroom_api.artifact import (
    KOHYA_WEIGHTS,
    LEARNED_EMBEDDINGS,
    LORA_WEIGHTS,
    Addition,
    ArtifactKind,
)
from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.training import Lora, Method
from darkroom_trainer.inputs.base.keys import TEXT_PREFIX

Weights = Mapping[str, Mapping[str, Tensor]]
"""What was trained, by component and by name in its module."""

NEW_EMBEDDINGS: Final = "embeddings.token_embedding.new"
"""How the name ends of the embeddings of new tokens, (N, D), in a text encoder that has them."""

PUBLISHED_MODE: Final = 0o644
"""Mode of weights: who serves a model is seldom who trained it, and safetensors keeps them to that one."""

_IN_TRAINING: Final = ".default.weight"
"""How the name of an adapter's tensor ends while it is trained; in files it has no adapter's name."""


def kind_of(spec: PersonalizationJobSpec) -> ArtifactKind:
    """What a job publishes."""
    match spec.training.method:
        case Method.FULL:
            return ArtifactKind.SUBJECT_MODEL
        case Method.LORA:
            return ArtifactKind.ADAPTER
        case Method.TEXTUAL_INVERSION:
            return ArtifactKind.EMBEDDINGS


def addition_of(spec: PersonalizationJobSpec) -> Addition | None:
    """What the manifest says of an addition; None for a whole model."""
    training = spec.training
    if training.method is Method.FULL:
        return None
    lora, tokens = training.adapters, training.added_tokens
    return Addition(
        trigger=spec.subject.identifier,
        rank=lora.rank if lora is not None else None,
        alpha=lora.scaled_alpha if lora is not None else None,
        vectors=tokens.vectors if tokens is not None else None,
    )


def write_addition(
    folder: Path, spec: PersonalizationJobSpec, weights: Weights, dtype: torch.dtype
) -> None:
    """Writes the files of a job's addition into a folder that has nothing else yet."""
    cast = {
        component: {name: tensor.to("cpu", dtype).contiguous() for name, tensor in own.items()}
        for component, own in weights.items()
    }
    if (lora := spec.training.adapters) is not None:
        adapters = _adapters(cast)
        _write_adapters(folder, adapters, lora)
        if spec.output.kohya_keys:
            _write_kohya(folder, adapters, lora)
    for own in cast.values():
        for name, tensor in own.items():
            if name.endswith(NEW_EMBEDDINGS):
                save_file({spec.subject.identifier: tensor}, folder / LEARNED_EMBEDDINGS)
    for file in folder.iterdir():
        file.chmod(PUBLISHED_MODE)


def _adapters(weights: Weights) -> dict[str, dict[str, Tensor]]:
    """Tensors of adapters by component, under peft's names for files."""
    found = {
        component: {
            _file_name(component, name): tensor
            for name, tensor in own.items()
            if name.endswith(_IN_TRAINING)
        }
        for component, own in weights.items()
    }
    return {component: own for component, own in found.items() if own}


def _file_name(component: str, name: str) -> str:
    """Text encoders have the prefix of transformers before version 5, which later ones read, too."""
    name = name.removesuffix(_IN_TRAINING) + ".weight"
    if component.startswith("text_encoder") and not name.startswith(TEXT_PREFIX):
        return TEXT_PREFIX + name
    return name


def _write_adapters(folder: Path, adapters: Mapping[str, dict[str, Tensor]], lora: Lora) -> None:
    """As diffusers' `save_lora_weights`, but with one entry in the file's header: two have no fixed order."""
    from diffusers.utils import convert_state_dict_to_diffusers

    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    for component, own in adapters.items():
        plain = component == "transformer"  # whose loader knows only peft's names
        named = own if plain else convert_state_dict_to_diffusers(own)
        tensors |= {f"{component}.{name}": tensor for name, tensor in named.items()}
        config = _metadata(own, lora)
        metadata |= {f"{component}.{key}": value for key, value in config.items()}
    header = {LORA_ADAPTER_METADATA_KEY: json.dumps(metadata, sort_keys=True)}
    save_file(tensors, folder / LORA_WEIGHTS, metadata=header)


def _metadata(adapters: Mapping[str, Tensor], lora: Lora) -> dict[str, Any]:
    """What diffusers makes a peft configuration of: without it, an alpha other than the rank is lost."""
    layers = sorted({name.partition(".lora_")[0].removeprefix(TEXT_PREFIX) for name in adapters})
    return {"r": lora.rank, "lora_alpha": lora.scaled_alpha, "target_modules": layers}


def _write_kohya(folder: Path, adapters: Mapping[str, dict[str, Tensor]], lora: Lora) -> None:
    from diffusers.utils import convert_state_dict_to_kohya

    named = {
        f"{component}.{name}": tensor
        for component, own in adapters.items()
        for name, tensor in own.items()
    }
    single = "text_encoder_2" not in adapters
    tensors = {}
    for name, tensor in convert_state_dict_to_kohya(named).items():
        # Its alpha is the rank, and its only text encoder is numbered as if there were two.
        key = name.replace("lora_te1_", "lora_te_") if single else name
        own_alpha = torch.tensor(float(lora.scaled_alpha))
        tensors[key] = own_alpha if name.endswith(".alpha") else tensor
    save_file(tensors, folder / KOHYA_WEIGHTS, metadata={"format": "pt"})
