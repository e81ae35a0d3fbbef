"""Loads a Stable Diffusion XL model to be trained."""

from pathlib import Path

from darkroom_sampling.families import stable_diffusion_xl
from darkroom_trainer.families.noise_prediction import load_objective, read_scheduler
from darkroom_trainer.families.protocols import BaseFiles, LoadedBase, with_objective


def load(files: BaseFiles) -> LoadedBase:
    """As `FamilyModel.load`."""
    objective = load_objective(files.folder / "scheduler", files.classes["scheduler"], files.device)
    return with_objective(stable_diffusion_xl.load(files), objective)


def check_scheduler(folder: Path, class_name: str) -> None:
    """As `FamilyModel.check_scheduler`."""
    read_scheduler(folder, class_name)
