"""Converts one file in the original layout of Stable Diffusion 1 or 2 to diffusers' layout.

The names are converted by diffusers' own functions (`from_single_file` uses them); the tensors stay as
they are. Configurations and tokenizer are those of a folder of the same family: no file has them.
"""

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from darkroom_trainer.importing.errors import refusal
from darkroom_trainer.importing.sources import refuse_other_layout
from darkroom_trainer.inputs.base.layout import MODEL_INDEX, WEIGHTS, find_components, read_json
from darkroom_trainer.inputs.base.license import CARD

Tensors = dict[str, torch.Tensor]

_OPEN_CLIP: Final = "cond_stage_model.model."
"""How the text encoder's tensors begin in Stable Diffusion 2."""


def convert(source: Path, configs: Path, target: Path) -> None:
    """Writes the model of a file into a folder, without what only the configurations' folder has weights of.

    Raises TrainerError for a file that holds no tensors of such a model.
    """
    checkpoint = _read(source)
    refuse_other_layout(source, list(checkpoint))
    classes = find_components(configs)
    _write_index(configs, target)
    for component in classes:
        if component in WEIGHTS or component in ("tokenizer", "scheduler"):
            _copy_configuration(configs / component, target / component)
    for component, tensors in _converted(checkpoint, configs).items():
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            target / component / f"{WEIGHTS[component]}.safetensors",
            metadata={"format": "pt"},
        )


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


def _converted(checkpoint: Tensors, configs: Path) -> dict[str, Tensors]:
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    unet = read_json(configs, "unet/config.json")
    vae = read_json(configs, "vae/config.json")
    return {
        "unet": convert_ldm_unet_checkpoint(checkpoint, unet),
        "vae": _with_linear_attention(convert_ldm_vae_checkpoint(checkpoint, vae)),
        "text_encoder": _text_encoder(checkpoint, configs),
    }


def _text_encoder(checkpoint: Tensors, configs: Path) -> Tensors:
    """The CLIP of version 1, or the OpenCLIP of version 2."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_open_clip_checkpoint,
    )

    if not any(name.startswith(_OPEN_CLIP) for name in checkpoint):
        return dict(convert_ldm_clip_checkpoint(checkpoint))
    width = read_json(configs, "text_encoder/config.json").get("hidden_size")
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
    return dict(convert_open_clip_checkpoint(model, checkpoint, prefix=_OPEN_CLIP))


def _with_linear_attention(tensors: Tensors) -> Tensors:
    """The VAE's attention was a convolution of one pixel, and is a matrix."""
    return {
        name: tensor[:, :, 0, 0] if ".attentions." in name and tensor.ndim == 4 else tensor
        for name, tensor in tensors.items()
    }


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
