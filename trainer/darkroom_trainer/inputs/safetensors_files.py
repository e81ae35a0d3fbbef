"""The safetensors files of a model: which they are, and how many parameters their headers name."""

import json
import struct
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Final

WEIGHTS: Final = MappingProxyType(
    {
        "unet": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
        "text_encoder": "model",
    }
)
"""Stem of the weights file of each component that has weights."""


def weight_files(folder: Path, component: str) -> list[Path]:
    """Safetensors files of a component: one, or the shards of one, sorted."""
    stem = WEIGHTS[component]
    whole = folder / component / f"{stem}.safetensors"
    if whole.is_file():
        return [whole]
    return sorted((folder / component).glob(f"{stem}-*-of-*.safetensors"))


def count_in_header(path: Path) -> int:
    """Elements of all tensors of a safetensors file; raises ValueError when its size is wrong."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError(f"{path.name} is cut off")
        tensors = json.loads(file.read(length))
    tensors.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    if 8 + length + end != path.stat().st_size:
        raise ValueError(f"{path.name} is cut off")
    return sum(prod(tensor["shape"]) for tensor in tensors.values())
