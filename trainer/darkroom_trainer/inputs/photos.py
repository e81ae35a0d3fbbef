"""Reads the instance images: files in, squares of RGB out, bad files set aside with a reason.

Imports no torch, so that a plan is quick.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from darkroom_api.artifact import json_digest
from darkroom_api.pictures.bounds import (
    MAX_FILE_BYTES,
    MAX_PHOTO_FILES,
    MIN_PHOTO_SIDE,
    MIN_PHOTOS,
    UnfitPictureError,
)
from darkroom_api.pictures.decoding import decode_picture
from darkroom_api.status import Reason
from darkroom_trainer.errors import TrainerError


@dataclass(frozen=True)
class Photo:
    """One instance image, ready for the VAE."""

    name: str
    sha256: str
    """Digest of the file that it came from."""

    pixels: NDArray[np.uint8]
    """(resolution, resolution, 3), RGB."""


@dataclass(frozen=True)
class Quarantined:
    """A file that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class PhotoSet:
    """The instance images of a job, sorted by file name."""

    photos: tuple[Photo, ...]
    quarantined: tuple[Quarantined, ...]

    @property
    def digest(self) -> str:
        """Sha256 over the files that are used, in their order."""
        return json_digest([photo.sha256 for photo in self.photos])


def load_photos(folder: Path, resolution: int) -> PhotoSet:
    """Reads all pictures directly in a folder as squares of `resolution` pixels.

    Hidden files and subfolders are not looked at; every other file is either a photo or quarantined.

    Raises TrainerError when the folder can't be read, has over 1000 files, or fewer than 3 good ones.
    """
    photos, quarantined = [], []
    for path in _list_files(folder):
        try:
            photos.append(_load_photo(path, folder, resolution))
        except UnfitPictureError as error:
            quarantined.append(Quarantined(path.name, str(error)))
    if len(photos) < MIN_PHOTOS:
        raise _too_few(folder, len(photos), quarantined)
    return PhotoSet(tuple(photos), tuple(quarantined))


def _list_files(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        files = [path for path in paths if not path.is_dir()]
    except OSError as error:
        raise TrainerError(
            Reason.PHOTOS_UNREADABLE,
            f"spec.subject.images: the folder {folder} can't be read: {error.strerror}",
            "check the path (file: is relative to the job file) and its permissions",
        ) from error
    if len(files) > MAX_PHOTO_FILES:
        raise TrainerError(
            Reason.TOO_MANY_PHOTOS,
            f"spec.subject.images: {folder} holds {len(files)} files; at most {MAX_PHOTO_FILES} are read",
            "move the best pictures of the subject into a folder of their own; 5 to 20 are plenty",
        )
    return files


def _too_few(folder: Path, good: int, quarantined: list[Quarantined]) -> TrainerError:
    reasons = "".join(f"\n  - {bad.name}: {bad.reason}" for bad in quarantined)
    found = (
        f"{good} of {good + len(quarantined)} files can be used" if reasons else "it has no files"
    )
    if good and not quarantined:
        found = f"it has {good}"
    return TrainerError(
        Reason.TOO_FEW_PHOTOS,
        f"spec.subject.images: at least {MIN_PHOTOS} photos are needed in {folder}; {found}{reasons}",
        "add JPEG, PNG or WEBP pictures of the subject from several sides",
    )


def _load_photo(path: Path, folder: Path, resolution: int) -> Photo:
    content = _read_file(path, folder)
    rgb = decode_picture(content, resolution).image
    if min(rgb.size) < MIN_PHOTO_SIDE:
        raise UnfitPictureError(
            f"is {rgb.width} x {rgb.height} pixels: its short side has fewer than {MIN_PHOTO_SIDE}"
        )
    # `fit` crops while it scales: a thin, long picture never becomes a huge one on the way.
    square = ImageOps.fit(rgb, (resolution, resolution), Image.Resampling.LANCZOS)
    return Photo(path.name, hashlib.sha256(content).hexdigest(), np.asarray(square).copy())


def _read_file(path: Path, folder: Path) -> bytes:
    """The bytes that are hashed and decoded, read once so that they can't change in between."""
    try:
        # `Path.resolve` would raise for a link that leads to itself.
        if not Path(os.path.realpath(path)).is_relative_to(folder.resolve()):
            raise UnfitPictureError("is a symbolic link that leads out of the folder")
        if not path.is_file():
            raise UnfitPictureError("is not a regular file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            limit = MAX_FILE_BYTES >> 20
            raise UnfitPictureError(
                f"is {size / 2**20:.1f} MiB, larger than the limit of {limit} MiB"
            )
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise UnfitPictureError(f"can't be read: {error.strerror}") from error
    return content
