"""Prints the shapes of the tensors that a base model's classes have: `python -m … FOLDER SCHEDULER_CLASS`.

A process of its own, because building the classes takes torch, which planning does without. They are
built without memory, on torch's meta device; no weights are read.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def _unet(folder: Path) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder))


def _vae(folder: Path) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_config(AutoencoderKL.load_config(folder))


def _text_encoder(folder: Path) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig.from_pretrained(folder, local_files_only=True))


_BUILDERS: dict[str, Callable[[Path], Any]] = {
    "unet": _unet,
    "vae": _vae,
    "text_encoder": _text_encoder,
}


def class_shapes(folder: Path) -> dict[str, Any]:
    """Shapes by component and name; a text instead, where a class can't be built from its config.json."""
    return {component: _shapes(build, folder / component) for component, build in _BUILDERS.items()}


def scheduler_problem(folder: Path, class_name: str) -> str | None:
    """Why training can't take its noise levels from a scheduler; None where it can."""
    from darkroom_trainer.families.noise_prediction import read_scheduler

    try:
        read_scheduler(folder, class_name)
    except Exception as error:  # noqa: BLE001 - whatever a library makes of a wrong configuration
        return _one_line(error)
    return None


def _shapes(build: Callable[[Path], Any], folder: Path) -> dict[str, list[int]] | str:
    try:
        with torch.device("meta"):
            built = build(folder)
    except Exception as error:  # noqa: BLE001 - whatever a library makes of a wrong configuration
        return _one_line(error)
    return {name: list(tensor.shape) for name, tensor in built.state_dict().items()}


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


if __name__ == "__main__":
    base_folder = Path(sys.argv[1])
    found = class_shapes(base_folder)
    found["scheduler"] = scheduler_problem(base_folder / "scheduler", sys.argv[2])
    print(json.dumps(found))
