"""Finds the inputs of a job on this machine."""

import os
from pathlib import Path

from darkroom_api.job import Images
from darkroom_api.names import PHOTOS_DIR_ENV
from darkroom_api.status import Reason
from darkroom_api.uris import local_path
from darkroom_trainer.errors import TrainerError


def find_images(images: Images, job_folder: Path) -> Path:
    """The folder of a job's instance images.

    Raises TrainerError when they are not on this machine.
    """
    if images.uri is None:
        if mounted := os.environ.get(PHOTOS_DIR_ENV):
            return Path(mounted)
        raise TrainerError(
            Reason.PHOTOS_UNREADABLE,
            f"spec.subject.images.configMap: ConfigMap {images.config_map} is only on a cluster",
            "for a run on this machine set spec.subject.images.uri to file:FOLDER",
        )
    return find_local("spec.subject.images.uri", images.uri, job_folder)


def find_local(field: str, uri: str, job_folder: Path) -> Path:
    """The path that a URI names on this machine; raises TrainerError that blames the field."""
    try:
        return local_path(uri, job_folder)
    except (LookupError, FileNotFoundError) as error:
        raise TrainerError(Reason.SOURCE_MISSING, f"{field}: {error}", "check the URI") from error
