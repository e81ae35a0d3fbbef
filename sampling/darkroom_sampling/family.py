"""What a family of models is: a module of `families` has one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from darkroom_sampling.model import DiffusionModel
from darkroom_sampling.protocols import ModelFiles


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family, as `FAMILY` in its module."""

    pipeline: str
    """The class that `model_index.json` names."""

    half_precision: torch.dtype
    """What its weights can be in on a GPU."""

    load: Callable[[ModelFiles], DiffusionModel]
    """Raises OSError or ValueError when a part is missing or has no safetensors."""
