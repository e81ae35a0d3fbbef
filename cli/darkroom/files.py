"""The files of a command: numbered, never replaced unasked; what goes wrong with them is said in words."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from darkroom.errors import CommandError

_URI: Final = re.compile(r"^[a-z0-9]+:")
"""Also of an unknown scheme, which the job's own rules refuse with the known ones."""


def file_uri(text: str, job_file: Path) -> str:
    """The URI of a path, relative to the job file; what is a URI stays as it is.

    Raises CommandError for a path that no text file can hold.
    """
    if not text or _URI.match(text):
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CommandError(f"{text!a}: this path is not UTF-8; rename the folder") from error
    return f"file:{os.path.relpath(text, job_file.parent)}"


def numbered(output: Path, count: int) -> list[Path]:
    """The files of `count` pictures: `dog.png`, or `dog-1.png`, `dog-2.png`, ..."""
    if count == 1:
        return [output]
    return [
        output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)
    ]


def check_writable(paths: list[Path], *, force: bool) -> None:
    """Raises CommandError when a file would be lost or can't be there."""
    for path in paths:
        with explained(path, "written"):
            if not path.parent.is_dir():
                raise CommandError(f"{path}: its folder does not exist; create it first")
            if path.is_dir():
                raise CommandError(f"{path} is a folder; name a file in it")
            if path.exists() and not force:
                raise CommandError(
                    f"{path} exists; choose another name, or replace it with --force"
                )


@contextmanager
def explained(path: Path, verb: str) -> Iterator[None]:
    """Explains what the file system refuses: "dog.png: can't be written: No space left on device"."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"{path}: can't be {verb}: {error.strerror}; check the path") from error
