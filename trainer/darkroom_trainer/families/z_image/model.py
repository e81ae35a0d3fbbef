"""Loads a Z-Image model to be trained."""

from pathlib import Path

from darkroom_sampling.families import z_image
from darkroom_trainer.families.flow_matching import load_flow
from darkroom_trainer.families.protocols import BaseFiles, LoadedBase, with_objective


def load(files: BaseFiles) -> LoadedBase:
    """As `FamilyModel.load`."""
    objective = load_flow(files.folder / "scheduler", files.classes["scheduler"])
    return with_objective(z_image.load(files), objective)


def check_scheduler(folder: Path, class_name: str) -> None:
    """As `FamilyModel.check_scheduler`."""
    load_flow(folder, class_name)
