"""Converts one file in the original layout of a family to diffusers' layout.

The family converts the names; the tensors stay as they are. Configurations and tokenizers are those of
a folder of the same family: no file has them.
"""

import json
import pickle
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from darkroom_trainer.families.layout import FamilyLayout
from darkroom_trainer.families.original_unet import Tensors
from darkroom_trainer.importing.errors import refusal
from darkroom_trainer.importing.sources import refuse_other_layout
from darkroom_trainer.inputs.base.layout import MODEL_INDEX, find_components, find_family, read_json
from darkroom_trainer.inputs.base.license import CARD


def convert(source: Path, configs: Path, target: Path) -> None:
    """Writes the model of a file into a folder, without what only the configurations' folder has weights of.

    Raises TrainerError for a file that holds no tensors of such a model.
    """
    checkpoint = _read(source)
    family = find_family(configs)
    refuse_other_layout(source, list(checkpoint), family)
    classes = find_components(configs)
    _write_index(configs, target)
    for component in classes:
        if component in family.required:
            _copy_configuration(configs / component, target / component)
    for component, tensors in _converted(checkpoint, family, configs).items():
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            target / component / f"{family.weights[component]}.safetensors",
            metadata={"format": "pt"},
        )


def _converted(checkpoint: Tensors, family: FamilyLayout, configs: Path) -> dict[str, Tensors]:
    module = import_module(f"darkroom_trainer.families.{family.name}.original")
    converted: dict[str, Tensors] = module.convert(
        checkpoint, lambda name: read_json(configs, name)
    )
    return converted


def _read(source: Path) -> Tensors:
    """The tensors of a file; of a pickle nothing but tensors is made."""
    if source.suffix == ".safetensors":
        tensors: Tensors = load_file(source)
        return tensors
    try:
        content: Any = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise refusal(
            source,
            "it holds more than tensors, or is damaged; nothing of it was run",
            "use the model's .safetensors",
        ) from error
    while isinstance(content, dict) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise refusal(source, "it holds no model", "use the model's .safetensors")
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _write_index(configs: Path, target: Path) -> None:
    """The index without the safety checker: its weights are in no such file."""
    index = read_json(configs, MODEL_INDEX)
    for component in ("safety_checker", "feature_extractor", "image_encoder"):
        if component in index:
            index[component] = [None, None]
    index["requires_safety_checker"] = False
    (target / MODEL_INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _copy_configuration(source: Path, target: Path) -> None:
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.suffix in (".json", ".txt") and ".index." not in path.name and path.name != CARD:
            shutil.copyfile(path, target / path.name)
