"""The instance images of a job: photos of a folder as squares of RGB, and the prompt of each.

Imports no torch, so that a plan is quick.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from darkroom_api.job import Subject
from darkroom_api.pictures.folder import PhotoFolderError
from darkroom_api.pictures.photos import Photo as AnyPhoto
from darkroom_api.pictures.photos import PhotoSet as AnyPhotoSet
from darkroom_api.pictures.photos import read_photos
from darkroom_trainer.errors import TrainerError

Pixels = NDArray[np.uint8]
"""(resolution, resolution, 3), RGB."""

Photo = AnyPhoto[Pixels]
PhotoSet = AnyPhotoSet[Pixels]


def load_photos(folder: Path, resolution: int) -> PhotoSet:
    """Reads all pictures of a folder as squares of `resolution` pixels.

    Raises TrainerError when folder or captions can't be used, or fewer than 3 pictures are good.
    """

    def square(image: Image.Image) -> Pixels:
        # `fit` crops while it scales: a thin, long picture never becomes a huge one on the way.
        fitted = ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS)
        return np.asarray(fitted).copy()

    try:
        return read_photos(folder, resolution, square)
    except PhotoFolderError as error:
        *others, last = error.problems
        lines = [f"{one.field}: {one.message}; {one.fix}" for one in others]
        message = "\n".join([*lines, f"{last.field}: {last.message}"])
        raise TrainerError(error.reason, message, last.fix) from error


def photo_prompts(photos: PhotoSet, subject: Subject) -> list[str]:
    """The prompt of each photo, in their order."""
    return [subject.photo_prompt(photo.caption) for photo in photos.photos]
