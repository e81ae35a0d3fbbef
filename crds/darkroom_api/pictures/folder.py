"""What is in a folder of photos: pictures, captions, kohya's sub-folders, and files that are neither."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from darkroom_api.pictures.bounds import MAX_FILE_BYTES, MAX_PHOTO_FILES, UnfitPictureError
from darkroom_api.problems import Problem
from darkroom_api.status import Reason
from darkroom_api.words import counted, printable

FIELD: Final = "spec.subject.images"

METADATA_FILE: Final = "metadata.jsonl"
"""Captions of a whole folder, as Hugging Face's imagefolder has them."""

OTHER_METADATA: Final = ("metadata.csv", "metadata.parquet")
"""Captions in forms that imagefolder reads and we don't."""

CAPTION_SUFFIXES: Final = (".txt", ".caption")
"""Of a file with the caption of the picture beside it: most tools write the first, kohya's by default the second."""

MAX_REPEATS: Final = 1000
"""Most times that a photo may be drawn as often as another one."""

_KOHYA_FOLDER: Final = re.compile(r"(\d{1,6})_(.+)", re.DOTALL)
"""`10_sks dog`: each photo ten times, with the caption "sks dog"."""

_JUNK_NAMES: Final = frozenset({"desktop.ini", "ehthumbs.db", "icon\r", "picasa.ini", "thumbs.db"})
_JUNK_SUFFIXES: Final = frozenset(
    {".aae", ".avi", ".db", ".html", ".ini", ".json", ".lnk", ".lrv", ".m4v", ".md", ".mov", ".mp4"}
    | {".npz", ".thm", ".url", ".xml", ".xmp"}
)
"""Sidecars of cameras and phones (a Live Photo's film too), and what trainers leave behind."""

_JUNK_STEMS: Final = frozenset({"copying", "credits", "licence", "license", "notice", "readme"})
_NAMED: Final = 5
"""Most names that a warning lists."""


@dataclass(frozen=True)
class PhotoFile:
    """A file that may be a photo."""

    path: Path

    name: str
    """Its path below the folder as it can be shown: bytes that are no UTF-8 are escaped."""

    repeats: int = 1
    """How often it is drawn, beside others."""

    caption: str | None = None
    """That of its sub-folder."""


@dataclass(frozen=True)
class PhotoFolder:
    """The files of a folder and of its kohya sub-folders, none of which has been opened."""

    path: Path

    files: tuple[PhotoFile, ...]
    """Sorted by path."""

    caption_files: tuple[Path, ...]
    metadata_files: tuple[Path, ...]

    ignored: tuple[str, ...]
    """Names of files that are no photos and no captions."""

    skipped: tuple[str, ...]
    """Names of sub-folders that are not read."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not read, in a line each."""
        found = [
            f"{name} is not read: write its captions into {METADATA_FILE}"
            for name in self.ignored
            if Path(name).name in OTHER_METADATA
        ]
        if self.ignored:
            are = "is" if len(self.ignored) == 1 else "are"
            found.append(
                f"{counted(len(self.ignored), 'file')} beside the photos {are} ignored: {_some(self.ignored)}"
            )
        if self.skipped:
            are = "is" if len(self.skipped) == 1 else "are"
            found.append(
                f"{counted(len(self.skipped), 'sub-folder')} {are} not read: {_some(self.skipped)}; only those"
                ' named as in "10_sks dog" are (repeats, caption)'
            )
        return tuple(found)


class PhotoFolderError(ValueError):
    """Why a folder can't be learnt from; `problems` are for lint, `reason` is for programs."""

    def __init__(self, reason: Reason, problems: Sequence[Problem]) -> None:
        super().__init__(reason, problems)
        self.reason = reason
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(f"{one.field}: {one.message}; {one.fix}" for one in self.problems)


def list_photos(folder: Path) -> PhotoFolder:
    """Lists a folder and its sub-folders of kohya's kind; opens no file.

    Raises PhotoFolderError when one of them can't be read, or there are over 1000 files.
    """
    found = _entries(folder)
    subfolders = [path for path in found if path.is_dir() and not path.name.startswith(".")]
    kohya = {path: match for path in subfolders if (match := _kohya(path.name))}
    files = [path for path in found if not path.is_dir()]
    files += [inner for path in kohya for inner in _entries(path) if not inner.is_dir()]
    skipped = [path for path in subfolders if path not in kohya]
    skipped += [inner for path in kohya for inner in _entries(path) if inner.is_dir()]
    junk = [path for path in files if _is_junk(path)]
    rest = sorted(set(files) - set(junk))
    _refuse_too_many(folder, rest)

    def shown(paths: Iterable[Path]) -> tuple[str, ...]:
        return tuple(printable(str(path.relative_to(folder))) for path in sorted(paths))

    metadata = [path for path in rest if path.name == METADATA_FILE]
    captions = [path for path in rest if path.suffix.lower() in CAPTION_SUFFIXES]
    pictures = [path for path in rest if path not in metadata and path not in captions]
    return PhotoFolder(
        path=folder,
        files=tuple(
            PhotoFile(path, name, *kohya.get(path.parent, (1, None)))
            for path, name in zip(pictures, shown(pictures), strict=True)
        ),
        caption_files=tuple(captions),
        metadata_files=tuple(metadata),
        ignored=shown(junk),
        skipped=shown(skipped),
    )


def read_file(path: Path, folder: Path, limit_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes that are hashed and decoded, read once so that they can't change in between.

    Raises UnfitPictureError for what is no regular file in the folder, or too large.
    """
    try:
        # `Path.resolve` would raise for a link that leads to itself.
        if not Path(os.path.realpath(path)).is_relative_to(folder.resolve()):
            raise UnfitPictureError("is a symbolic link that leads out of the folder")
        if not path.is_file():
            raise UnfitPictureError("is not a regular file")
        size = path.stat().st_size
        if size > limit_bytes:
            raise UnfitPictureError(
                f"is {size / 2**20:.1f} MiB, larger than the limit of {limit_bytes / 2**20:.4g} MiB"
            )
        with path.open("rb") as file:
            return file.read(limit_bytes)
    except OSError as error:
        raise UnfitPictureError(f"can't be read: {error.strerror}") from error


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        problem = Problem(
            FIELD,
            f"the folder {printable(str(folder))} can't be read: {error.strerror}",
            "check the path (file: is relative to the job file) and its permissions",
        )
        raise PhotoFolderError(Reason.PHOTOS_UNREADABLE, [problem]) from error


def _kohya(name: str) -> tuple[int, str] | None:
    """Repeats and caption of a sub-folder's name; None where it has none."""
    match = _KOHYA_FOLDER.fullmatch(name)
    if match is None or not 1 <= int(match[1]) <= MAX_REPEATS:
        return None
    return int(match[1]), printable(match[2]).strip()


def _is_junk(path: Path) -> bool:
    name = path.name.lower()
    return (
        path.name.startswith(".")
        or name in _JUNK_NAMES
        or name in OTHER_METADATA
        or path.suffix.lower() in _JUNK_SUFFIXES
        or (path.suffix.lower() in ("", ".txt") and path.stem.lower() in _JUNK_STEMS)
    )


def _refuse_too_many(folder: Path, files: Sequence[Path]) -> None:
    if len(files) > MAX_PHOTO_FILES:
        problem = Problem(
            FIELD,
            f"{printable(str(folder))} holds {len(files)} files; at most {MAX_PHOTO_FILES} are read",
            "move the best pictures of the subject into a folder of their own; 5 to 20 are plenty",
        )
        raise PhotoFolderError(Reason.TOO_MANY_PHOTOS, [problem])


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
