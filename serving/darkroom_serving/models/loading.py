"""Loads a model into memory: safetensors only, nothing downloaded, in half precision on a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darkroom_sampling.catalogue import known_families
from darkroom_sampling.model import DiffusionModel
from darkroom_serving.drawing.safety import SafetyChecker, load_safety_checker


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, and who judges its pictures."""

    model: DiffusionModel
    pipeline: str
    """The class of diffusers that its folder names."""

    safety: SafetyChecker | None
    """None where the model came without one."""


@dataclass(frozen=True)
class Files:
    """As `ModelFiles`: a verified folder."""

    folder: Path
    index: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype

    def model(self, component: str, cls: Any, *, never_trained: bool = False) -> Any:
        """As `ModelFiles.model`: nothing is trained here, all is in one type."""
        loaded = cls.from_pretrained(
            self.folder / component,
            use_safetensors=True,
            dtype=self.dtype,
            local_files_only=True,
        )
        return loaded.to(self.device).eval().requires_grad_(False)

    def tokenizer(self, component: str, cls: Any) -> Any:
        """As `ModelFiles.tokenizer`."""
        return cls.from_pretrained(self.folder / component, local_files_only=True)


def choose_device() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(folder: Path, device: torch.device) -> LoadedModel:
    """Loads a verified folder of a model that draws by itself.

    Raises OSError or ValueError when a part is missing, has no safetensors, or is of no known family.
    """
    from diffusers import DiffusionPipeline

    index = DiffusionPipeline.load_config(folder, local_files_only=True)
    pipeline = str(index.get("_class_name"))
    family = known_families().get(pipeline)
    if family is None:
        raise ValueError(f"{pipeline} is none of {', '.join(known_families())}")
    dtype = family.half_precision if device.type == "cuda" else torch.float32
    return LoadedModel(
        model=family.load(Files(folder, index, device, dtype)),
        pipeline=pipeline,
        safety=load_safety_checker(folder, device),
    )
