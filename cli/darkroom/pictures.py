"""Writes generated pictures to files that say how they were made."""

import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.errors import CommandError


def numbered(output: Path, count: int) -> list[Path]:
    """The files of `count` pictures: `dog.png`, or `dog-1.png`, `dog-2.png`, ..."""
    if count == 1:
        return [output]
    return [
        output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)
    ]


def check_writable(paths: list[Path], *, force: bool) -> None:
    """Raises CommandError when a file would be lost or its folder is not there."""
    for path in paths:
        if not path.parent.is_dir():
            raise CommandError(f"{path}: its folder does not exist; create it first")
        if path.exists() and not force:
            raise CommandError(f"{path} exists; choose another name, or replace it with --force")


def with_text(png: bytes, text: dict[str, str]) -> bytes:
    """A PNG whose text holds these entries; what the server wrote already stays as it is."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        image.load()
        there = {key: str(value) for key, value in getattr(image, "text", {}).items()}
        if text.keys() <= there.keys():
            return png
        info = PngInfo()
        for key, value in (text | there).items():
            info.add_itxt(key, value)
        target = io.BytesIO()
        image.save(target, format="PNG", pnginfo=info)
    return target.getvalue()
