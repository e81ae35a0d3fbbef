"""Captions of photos: a text file beside each, or `metadata.jsonl` for the folder.

`name.txt` and `name.caption` are kohya's and ai-toolkit's way, `metadata.jsonl` is that of Hugging Face's
imagefolder: a JSON object a line with `file_name`, `text` and, as our own addition, `repeats`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from darkroom_api.pictures.bounds import UnfitPictureError
from darkroom_api.pictures.folder import (
    FIELD,
    MAX_REPEATS,
    PhotoFile,
    PhotoFolder,
    PhotoFolderError,
    read_file,
)
from darkroom_api.problems import Problem
from darkroom_api.status import Reason
from darkroom_api.words import printable

MAX_CAPTION_BYTES: Final = 64 << 10
"""Largest text file of a caption: what a model reads of it is some 300 bytes."""

MAX_METADATA_BYTES: Final = 16 << 20
"""Largest metadata.jsonl: 1000 lines of 16 KiB."""


@dataclass(frozen=True)
class CaptionedFolder:
    """A folder whose captions have been read."""

    files: tuple[PhotoFile, ...]
    """With captions of their own in place of their sub-folder's."""

    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """What one file says of a picture."""

    source: str
    caption: str
    repeats: int | None = None


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    file_name: StrictStr
    text: StrictStr
    repeats: Annotated[StrictInt, Field(ge=1, le=MAX_REPEATS)] | None = None


def caption_line(file_name: str, text: str, repeats: int) -> str:
    """A line of metadata.jsonl."""
    value: dict[str, Any] = {"file_name": file_name, "text": text}
    return json.dumps(value | ({"repeats": repeats} if repeats > 1 else {}), ensure_ascii=False)


def read_captions(listing: PhotoFolder) -> CaptionedFolder:
    """Reads all captions of a folder; opens no picture.

    Raises PhotoFolderError with every caption that can't be read, or has no picture or another one's.
    """
    problems: list[Problem] = []
    entries: dict[Path, list[_Entry]] = {}
    for path in listing.caption_files:
        _collect(problems, entries, listing, path, _text_entries(listing, path))
    for path in listing.metadata_files:
        _collect(problems, entries, listing, path, _metadata_entries(listing, path))
    for found in entries.values():
        if len(found) > 1:
            sources = " and ".join(entry.source for entry in found)
            problems.append(_problem(f"{sources} are captions of the same picture", "keep one"))
    if problems:
        raise PhotoFolderError(Reason.CAPTIONS_UNUSABLE, problems)
    files = [_captioned(file, entries.get(file.path)) for file in listing.files]
    empty = [
        f"{entry.source}: the caption is empty; the words of the job are used"
        for found in entries.values()
        for entry in found
        if not entry.caption
    ]
    return CaptionedFolder(tuple(files), tuple(empty))


def _captioned(file: PhotoFile, found: list[_Entry] | None) -> PhotoFile:
    if not found:
        return file
    entry = found[0]
    return replace(
        file, caption=entry.caption or file.caption, repeats=entry.repeats or file.repeats
    )


def _collect(
    problems: list[Problem],
    entries: dict[Path, list[_Entry]],
    listing: PhotoFolder,
    path: Path,
    found: Iterator[tuple[Path, _Entry]],
) -> None:
    """Adds what a file says to `entries`, or why it can't to `problems`."""
    pictures = {file.path for file in listing.files}
    try:
        for picture, entry in found:
            if picture in pictures:
                entries.setdefault(picture, []).append(entry)
            else:
                what = f"{entry.source} is the caption of a picture that is not there"
                problems.append(_problem(what, "add the picture, or take the caption away"))
    except UnfitPictureError as error:
        problems.append(_problem(f"{_name(listing, path)} {error}", "correct it"))


def _text_entries(listing: PhotoFolder, path: Path) -> Iterator[tuple[Path, _Entry]]:
    text = _read_text(listing, path, MAX_CAPTION_BYTES)
    entry = _Entry(_name(listing, path), " ".join(text.split()))
    stem = path.with_suffix("")
    pictures = [
        file.path for file in listing.files if stem in (file.path.with_suffix(""), file.path)
    ]
    for picture in pictures or [stem]:
        yield picture, entry


def _metadata_entries(listing: PhotoFolder, path: Path) -> Iterator[tuple[Path, _Entry]]:
    rows = _read_text(listing, path, MAX_METADATA_BYTES).split("\n")
    for number, row in enumerate(rows, start=1):
        if row.strip():
            try:
                line = _Line.model_validate_json(row)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise UnfitPictureError(
                    f"line {number}: {where + ': ' if where else ''}{first['msg']}"
                ) from error
            source = f"{_name(listing, path)} line {number} ({printable(line.file_name)})"
            entry = _Entry(source, " ".join(line.text.split()), line.repeats)
            yield path.parent / line.file_name, entry


def _read_text(listing: PhotoFolder, path: Path, limit_bytes: int) -> str:
    try:
        return read_file(path, listing.path, limit_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnfitPictureError("is not UTF-8 text") from error


def _name(listing: PhotoFolder, path: Path) -> str:
    return printable(str(path.relative_to(listing.path)))


def _problem(message: str, fix: str) -> Problem:
    return Problem(FIELD, message, fix)
