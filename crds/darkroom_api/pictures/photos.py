"""Reads a folder of photos, for trainer and command alike: what is good, what is set aside, what to mind."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from PIL import Image

from darkroom_api.artifact import json_digest
from darkroom_api.pictures.bounds import MIN_PHOTO_SIDE, MIN_PHOTOS, UnfitPictureError
from darkroom_api.pictures.buckets import Size, fill_scale, kept_share, nearest_bucket
from darkroom_api.pictures.captions import read_captions
from darkroom_api.pictures.decoding import Picture, decode_picture
from darkroom_api.pictures.folder import FIELD, PhotoFile, PhotoFolderError, list_photos, read_file
from darkroom_api.pictures.near_duplicates import Signature, first_like, signature
from darkroom_api.problems import Problem
from darkroom_api.status import Reason
from darkroom_api.words import printable

T = TypeVar("T")
"""What is made of a photo's pixels."""


@dataclass(frozen=True)
class Photo(Generic[T]):
    """One good photo."""

    name: str
    """Its path below the folder, as it can be shown."""

    sha256: str
    """Digest of the file that it came from."""

    size: Size
    """Of the picture in that file, upright."""

    crop: Size
    """What it is cropped to: a square, or its bucket."""

    pixels: T

    caption: str | None
    """What its owner says of it; None where the words of the job are to be used."""

    repeats: int
    """How often it is drawn, beside the others; the repeats of a set have no common divisor."""


@dataclass(frozen=True)
class Quarantined:
    """A file that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class PhotoSet(Generic[T]):
    """The photos of a folder, sorted by path."""

    photos: tuple[Photo[T], ...]
    quarantined: tuple[Quarantined, ...]

    duplicates: tuple[Quarantined, ...]
    """Good pictures that show what an earlier one shows."""

    warnings: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Sha256 over all that is learnt from: files in their order, captions and repeats."""
        if all(photo.caption is None and photo.repeats == 1 for photo in self.photos):
            return json_digest([photo.sha256 for photo in self.photos])
        return json_digest([[one.sha256, one.caption, one.repeats] for one in self.photos])


def read_photos(
    folder: Path,
    resolution: int,
    prepare: Callable[[Image.Image, Size], T],
    buckets: Sequence[Size] = (),
) -> PhotoSet[T]:
    """Reads all pictures of a folder and of its kohya sub-folders; `prepare` is given them in RGB.

    Beside each it is given what that is cropped to: the nearest bucket, or without any the square of
    `resolution` pixels.

    Raises PhotoFolderError when the folder or its captions can't be used, or fewer than 3 are good.
    """
    listing = list_photos(folder)
    captions = read_captions(listing)
    photos: list[Photo[T]] = []
    quarantined, duplicates, warnings = [], [], [*listing.warnings, *captions.warnings]
    seen: list[tuple[str, Signature]] = []
    for file in captions.files:
        try:
            content = read_file(file.path, folder)
            picture = decode_picture(content, resolution)
            _check_side(picture)
        except UnfitPictureError as error:
            quarantined.append(Quarantined(file.name, str(error)))
            continue
        found = signature(picture.image)
        if (like := first_like(found, seen)) is not None:
            duplicates.append(Quarantined(file.name, f"shows the same picture as {like}"))
            continue
        seen.append((file.name, found))
        crop = nearest_bucket(picture.size, buckets or [(resolution, resolution)])
        warnings += _doubts(file, picture, crop)
        photos.append(
            Photo(
                name=file.name,
                sha256=hashlib.sha256(content).hexdigest(),
                size=picture.size,
                crop=crop,
                pixels=prepare(picture.image, crop),
                caption=file.caption,
                repeats=file.repeats,
            )
        )
    if len(photos) < MIN_PHOTOS:
        raise _too_few(folder, len(photos), [*quarantined, *duplicates], listing.warnings)
    return PhotoSet(
        _in_lowest_terms(photos), tuple(quarantined), tuple(duplicates), tuple(warnings)
    )


def _check_side(picture: Picture) -> None:
    width, height = picture.size
    if min(width, height) < MIN_PHOTO_SIDE:
        raise UnfitPictureError(
            f"is {width} x {height} pixels: its short side has fewer than {MIN_PHOTO_SIDE};"
            " use a larger one"
        )


def _doubts(file: PhotoFile, picture: Picture, crop: Size) -> list[str]:
    """What is not wrong, and worth knowing."""
    (width, height), found = picture.size, []
    if picture.remark is not None:
        found.append(f"{file.name} {picture.remark}")
    lost = 1 - kept_share(picture.size, crop)
    if lost > 0.5:
        used = "square" if crop[0] == crop[1] else f"{crop[0]} x {crop[1]}"
        found.append(
            f"{file.name} is {width} x {height} pixels: the {used} in its middle is used, and"
            f" {lost:.0%} of it is lost; crop it to the subject"
        )
    factor = fill_scale(picture.size, crop)
    if factor > 2:
        found.append(
            f"{file.name} is {width} x {height} pixels and is scaled up {factor:.1f} times: it has no"
            " details to learn; use a larger one"
        )
    return found


def _in_lowest_terms(photos: list[Photo[T]]) -> tuple[Photo[T], ...]:
    divisor = math.gcd(*(photo.repeats for photo in photos))
    return tuple(replace(one, repeats=one.repeats // divisor) for one in photos)


def _too_few(
    folder: Path, good: int, unused: list[Quarantined], warnings: Sequence[str]
) -> PhotoFolderError:
    reasons = "".join(f"\n  - {bad.name}: {bad.reason}" for bad in unused)
    reasons += "".join(f"\n  - {warning}" for warning in warnings)
    found = f"{good} of {good + len(unused)} files can be used" if unused else f"it has {good}"
    problem = Problem(
        FIELD,
        f"at least {MIN_PHOTOS} photos are needed in {printable(str(folder))}; {found}{reasons}",
        "add JPEG, HEIC, PNG or WEBP pictures of the subject from several sides",
    )
    return PhotoFolderError(Reason.TOO_FEW_PHOTOS, [problem])
