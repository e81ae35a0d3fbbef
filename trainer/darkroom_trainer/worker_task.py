"""What a worker is given: the job and where its inputs and outputs are. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from darkroom_api.artifact import json_digest
from darkroom_api.job import PersonalizationJob
from darkroom_trainer.inputs.base_model import BaseModel
from darkroom_trainer.inputs.class_image_store import ClassImageStore, PriorRecipe, prior_recipe
from darkroom_trainer.inputs.photos import PhotoSet
from darkroom_trainer.output.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """One attempt at a job, the same for every rank."""

    job: PersonalizationJob
    base: BaseModel
    photos_folder: Path

    run_folder: Path
    """Checkpoints, validation grids, progress; one run at a time."""

    class_images_root: Path
    """Folder of all class image stores."""

    registry_root: Path
    """Where the model is published."""

    resume_from: Checkpoint | None
    """A verified checkpoint of this run."""

    threads: int | None
    """CPU threads of a worker; None where it has to count on its own machine."""

    def to_config(self) -> dict[str, Any]:
        """What crosses into a worker; the job in its wire form."""
        return vars(self) | {"job": self.job.model_dump_json(by_alias=True)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Parses `to_config` back."""
        return cls(**config | {"job": PersonalizationJob.model_validate_json(config["job"])})

    @property
    def first_step(self) -> int:
        """Optimizer steps that are done before this attempt."""
        return self.resume_from.state.step if self.resume_from is not None else 0

    @property
    def recipe(self) -> PriorRecipe | None:
        """How class images are made; None without a generated prior."""
        return prior_recipe(self.job.spec, self.base.digest, self.base.family.sampler)

    @property
    def class_images(self) -> ClassImageStore | None:
        """Where class images are kept; None without a generated prior."""
        recipe = self.recipe
        return None if recipe is None else ClassImageStore(self.class_images_root, recipe)

    def inputs_digest(self, photos: PhotoSet) -> str:
        """Sha256 of all that is trained on; class images are fixed by their recipe and number."""
        recipe = self.recipe
        prior = [recipe.key, self.job.spec.prior_preservation.num_images] if recipe else []
        return json_digest([self.base.digest, photos.digest, prior])
