"""Photos for a cluster: checked, and made small for a ConfigMap, which holds 1 MiB."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from darkroom.errors import CommandError
from darkroom.files import explained
from darkroom_api.pictures.bounds import (
    MAX_FILE_BYTES,
    MAX_PHOTO_FILES,
    MIN_PHOTO_SIDE,
    MIN_PHOTOS,
    UnfitPictureError,
)
from darkroom_api.pictures.decoding import decode_picture
from darkroom_api.words import counted

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES: Final = 1 << 20
"""What Kubernetes lets a ConfigMap hold."""

QUALITY: Final = 90
"""Of the JPEG files: no difference to be seen, a third of the size of 100."""


@dataclass(frozen=True)
class Photos:
    """A subject's photos as they go into a ConfigMap: JPEG files by their key."""

    files: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))


def read_photos(folder: Path, resolution: int) -> Photos:
    """Every picture of a folder, no larger than the training uses it.

    Raises CommandError with all pictures that can't be used, or when they are too few or too large.
    """
    files: dict[str, bytes] = {}
    problems: list[str] = []
    for number, path in enumerate(_paths(folder), start=1):
        try:
            files[_key(number, path)] = _prepared(path, resolution)
        except UnfitPictureError as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise CommandError("\n".join([*problems, "correct these pictures, or take them away"]))
    if len(files) < MIN_PHOTOS:
        raise CommandError(
            f"--photos: {folder} holds {counted(len(files), 'picture')}; {MIN_PHOTOS} or more are needed"
        )
    photos = Photos(files)
    if photos.size > MAX_BYTES:
        raise CommandError(_too_large(photos, resolution))
    return photos


def _paths(folder: Path) -> list[Path]:
    with explained(folder, "read"):
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    paths = [path for path in paths if path.is_file()]
    if len(paths) > MAX_PHOTO_FILES:
        raise CommandError(f"--photos: {folder} holds {len(paths)} files; give the best 5 to 20")
    return paths


def _key(number: int, path: Path) -> str:
    """A ConfigMap's key; the number keeps the order, and alike names apart."""
    return f"{number:03}-{re.sub(r'[^-A-Za-z0-9_]+', '-', path.stem)[:80]}.jpg"


def _prepared(path: Path, resolution: int) -> bytes:
    with explained(path, "read"), path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    picture = decode_picture(content, resolution).image
    if min(picture.size) < MIN_PHOTO_SIDE:
        raise UnfitPictureError(
            f"is {picture.width} x {picture.height} pixels, a side shorter than {MIN_PHOTO_SIDE};"
            " use a larger one"
        )
    buffer = io.BytesIO()
    # Without EXIF: where and when a photo was taken is nobody's business on a cluster.
    _shrunk(picture, resolution).save(buffer, format="JPEG", quality=QUALITY, exif=b"")
    return buffer.getvalue()


def _shrunk(picture: "Image.Image", resolution: int) -> "Image.Image":
    """With a short side of `resolution` pixels; never enlarged."""
    from PIL import Image

    short = min(picture.size)
    if short <= resolution:
        return picture
    width, height = (max(resolution, round(side * resolution / short)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _too_large(photos: Photos, resolution: int) -> str:
    room = MAX_BYTES * len(photos.files) // photos.size
    return (
        f"--photos: {counted(len(photos.files), 'picture')} of {resolution} pixels need"
        f" {photos.size / 2**20:.1f} MiB, and a ConfigMap holds 1 MiB; give about {room} of them,"
        " or put them on a volume and set spec.subject.images.uri: pvc://CLAIM/path"
    )
