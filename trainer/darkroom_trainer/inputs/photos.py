"""The instance images of a job: photos of a folder cropped in RGB, and the prompt of each.

Imports no torch, so that a plan is quick.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from darkroom_api.job import Subject
from darkroom_api.pictures.buckets import Size, crop_corner
from darkroom_api.pictures.folder import PhotoFolderError
from darkroom_api.pictures.photos import Photo as AnyPhoto
from darkroom_api.pictures.photos import PhotoSet as AnyPhotoSet
from darkroom_api.pictures.photos import read_photos
from darkroom_trainer.errors import TrainerError

Pixels = NDArray[np.uint8]
"""(height, width, 3), RGB."""

Photo = AnyPhoto[Pixels]
PhotoSet = AnyPhotoSet[Pixels]


def load_photos(folder: Path, resolution: int, buckets: Sequence[Size] = ()) -> PhotoSet:
    """Reads all pictures of a folder, cropped to the nearest bucket, or to squares of `resolution` pixels.

    Raises TrainerError when folder or captions can't be used, or fewer than 3 pictures are good.
    """

    def cropped(image: Image.Image, size: Size) -> Pixels:
        # `fit` crops while it scales: a thin, long picture never becomes a huge one on the way.
        return np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS)).copy()

    try:
        return read_photos(folder, resolution, cropped, buckets)
    except PhotoFolderError as error:
        *others, last = error.problems
        lines = [f"{one.field}: {one.message}; {one.fix}" for one in others]
        message = "\n".join([*lines, f"{last.field}: {last.message}"])
        raise TrainerError(error.reason, message, last.fix) from error


def photo_prompts(photos: PhotoSet, subject: Subject) -> list[str]:
    """The prompt of each photo, in their order."""
    return [subject.photo_prompt(photo.caption) for photo in photos.photos]


def by_crop(photos: PhotoSet) -> dict[Size, list[int]]:
    """Which photos are cropped to each size, by their places in the set."""
    found: dict[Size, list[int]] = {
        size: [] for size in sorted({one.crop for one in photos.photos})
    }
    for place, photo in enumerate(photos.photos):
        found[photo.crop].append(place)
    return found


def crop_of(photo: Photo) -> tuple[int, int, int, int, int, int]:
    """Height and width of a photo, top and left corner of its crop once it is scaled, height and width of that."""
    left, top = crop_corner(photo.size, photo.crop)
    return (*photo.size[::-1], top, left, *photo.crop[::-1])
