"""What is known of a family before torch: its components, their classes, and what its configurations fix."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import darkroom_trainer.families

ReadConfig = Callable[[str], dict[str, Any]]
"""Reads a JSON file of the model's folder, such as `unet/config.json`; raises UnusableBaseError."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the configurations fix."""

    vae_scale_factor: int
    """Pixels along the side of one latent."""

    side_step: int
    """Pixels of which a picture's side must be a multiple."""

    latent_channels: int

    sample_size: int
    """Side in latents that the denoiser was trained at."""

    activations: int
    """Numbers that the denoiser keeps for the backward pass, for each position of a latent; about."""

    max_tokens: int
    """Longest prompt in tokens, with the begin and end tokens."""


@dataclass(frozen=True, kw_only=True)
class FamilyLayout:
    """A family of base models in diffusers' layout."""

    name: str
    """Of its folder here; its `model.py` has `load` and `check_scheduler`."""

    title: str
    """What people call it."""

    pipeline: str
    """The class that `model_index.json` names."""

    tag: str
    """The hub's word for it in a model card."""

    denoiser: str
    """The component that is trained."""

    denoiser_title: str
    """What people call that."""

    encoders: Mapping[str, str]
    """The tokenizer of each text encoder; both are components."""

    trains_text_encoders: bool
    """Whether they can be trained, too."""

    required: Mapping[str, str]
    """Components that a base model must have, and the class of each; empty where any will do."""

    weights: Mapping[str, str]
    """Stem of the weights file of each component whose weights are read."""

    scheduler: str
    """A class of schedulers that fits."""

    sampler: str
    """How class images are drawn, in a word; part of their address."""

    read_sizes: Callable[[ReadConfig], Sizes]
    """Checks the configurations; raises UnusableBaseError."""

    reads_as_clip: bool = True
    """Whether its tokenizers are CLIP's, whose words can be looked at for what they mean."""

    optional: Mapping[str, str] = field(default_factory=dict)
    """Components that it may have, and the class of each."""

    original: Mapping[str, str] = field(default_factory=dict)
    """How tensors' names begin in a single file, and of which part they are; empty where none is read."""

    @property
    def kept_in_full(self) -> tuple[str, ...]:
        """Components of transformers, loaded in the type that they are stored in unless config.json says another."""
        return (*self.encoders, "safety_checker", "image_encoder")


@cache
def known_families() -> Mapping[str, FamilyLayout]:
    """Every family by the name of its pipeline: each folder here that has a `layout.py`."""
    package = darkroom_trainer.families
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg]
    layouts: list[FamilyLayout] = [
        importlib.import_module(f"{package.__name__}.{name}.layout").LAYOUT for name in names
    ]
    return {layout.pipeline: layout for layout in layouts}


def weights_stem(component: str) -> str:
    """Stem of the weights file of a component of any family; that of transformers for others."""
    stems = {
        name: stem for family in known_families().values() for name, stem in family.weights.items()
    }
    return stems.get(component, "model")
