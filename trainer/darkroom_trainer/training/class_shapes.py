"""Prints the shapes of the tensors that a base model's classes have: `python -m … FOLDER SCHEDULER_CLASS`.

A process of its own, because building the classes takes torch, which planning does without. They are
built without memory, on torch's meta device; no weights are read.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from darkroom_trainer.families.protocols import model_of
from darkroom_trainer.inputs.base.layout import find_family


def class_shapes(folder: Path) -> dict[str, Any]:
    """Shapes by component and name; a text instead, where a class can't be built from its config.json."""
    family = find_family(folder)
    return {
        component: _shapes(family.required[component], folder / component)
        for component in family.weights
    }


def scheduler_problem(folder: Path, class_name: str) -> str | None:
    """Why training can't take its noise levels from a model's scheduler; None where it can."""
    try:
        model_of(find_family(folder)).check_scheduler(folder / "scheduler", class_name)
    except Exception as error:  # noqa: BLE001 - whatever a library makes of a wrong configuration
        return _one_line(error)
    return None


def _shapes(class_name: str, folder: Path) -> dict[str, list[int]] | str:
    try:
        with torch.device("meta"):
            built = _build(class_name, folder)
    except Exception as error:  # noqa: BLE001 - whatever a library makes of a wrong configuration
        return _one_line(error)
    return {name: list(tensor.shape) for name, tensor in built.state_dict().items()}


def _build(class_name: str, folder: Path) -> Any:
    """A model of diffusers or, where that has no such class, of transformers."""
    import diffusers
    import transformers

    if hasattr(diffusers, class_name):
        cls = getattr(diffusers, class_name)
        return cls.from_config(cls.load_config(folder))
    cls = getattr(transformers, class_name)
    return cls(cls.config_class.from_pretrained(folder, local_files_only=True))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


if __name__ == "__main__":
    base_folder = Path(sys.argv[1])
    found = class_shapes(base_folder)
    found["scheduler"] = scheduler_problem(base_folder, sys.argv[2])
    print(json.dumps(found))
