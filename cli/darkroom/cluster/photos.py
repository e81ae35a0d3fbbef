"""Photos for a cluster: checked, and made small for a ConfigMap, which holds 1 MiB."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from darkroom.errors import CommandError
from darkroom_api.pictures.buckets import photo_buckets
from darkroom_api.pictures.captions import caption_line
from darkroom_api.pictures.folder import METADATA_FILE, PhotoFolderError
from darkroom_api.pictures.photos import PhotoSet, read_photos
from darkroom_api.words import counted

if TYPE_CHECKING:
    from PIL import Image

    from darkroom_api.training import Training

MAX_BYTES: Final = 1 << 20
"""What Kubernetes lets a ConfigMap hold."""

QUALITY: Final = 90
"""Of the JPEG files: no difference to be seen, a third of the size of 100."""


SIDE_STEP: Final = 8
"""What the sides of a bucket are multiples of, as far as is known here: the base model may want more."""


@dataclass(frozen=True)
class Photos:
    """A subject's photos as they go into a ConfigMap: JPEG files by their key, and their captions."""

    files: dict[str, bytes]

    warnings: tuple[str, ...]
    """What is not used, and what to mind."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))


def photos_for_cluster(folder: Path, training: "Training") -> Photos:
    """Every picture of a folder, no larger than the training uses it; its shape stays.

    Raises CommandError with all pictures that can't be used, or when they are too few or too large.
    """
    resolution = training.resolution
    buckets = photo_buckets(training, SIDE_STEP)
    try:
        found = read_photos(
            folder, resolution, lambda image, _: _prepared(image, resolution), buckets
        )
    except PhotoFolderError as error:
        raise CommandError(_of_option(str(error))) from error
    if found.quarantined:
        problems = [f"{folder / bad.name}: {bad.reason}" for bad in found.quarantined]
        raise CommandError("\n".join([*problems, "correct these pictures, or take them away"]))
    duplicates = [f"{one.name} is left out: it {one.reason}" for one in found.duplicates]
    photos = Photos(_files(found), (*duplicates, *found.warnings))
    if photos.size > MAX_BYTES:
        raise CommandError(_too_large(photos, resolution))
    return photos


def _of_option(message: str) -> str:
    """Names the option in place of the field, which this folder is not in."""
    return message.replace("spec.subject.images:", "--photos:")


def _files(found: PhotoSet[bytes]) -> dict[str, bytes]:
    keys = [_key(number, photo.name) for number, photo in enumerate(found.photos, start=1)]
    files = {key: photo.pixels for key, photo in zip(keys, found.photos, strict=True)}
    lines = [
        caption_line(key, photo.caption or "", photo.repeats)
        for key, photo in zip(keys, found.photos, strict=True)
        if photo.caption is not None or photo.repeats > 1
    ]
    return files | ({METADATA_FILE: "\n".join(lines).encode()} if lines else {})


def _key(number: int, name: str) -> str:
    """A ConfigMap's key; the number keeps the order, and alike names apart."""
    return f"{number:03}-{re.sub(r'[^-A-Za-z0-9_]+', '-', Path(name).stem)[:80]}.jpg"


def _prepared(picture: "Image.Image", resolution: int) -> bytes:
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
