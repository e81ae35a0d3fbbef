"""Writes and verifies artifact folders: files first, fsync, manifest last, rename.

safetensors has no checksum and never calls fsync, so both are added here.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from darkroom_api.artifact import FileEntry, ModelManifest
from darkroom_api.names import MANIFEST_FILE

CHUNK_BYTES = 1 << 20
"""How much of a file is read at once while hashing."""


class IntegrityError(Exception):
    """A folder is not the complete, unaltered artifact that its manifest describes."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(folder, why)  # both, so that it survives pickling
        self.folder = folder
        self.why = why

    def __str__(self) -> str:
        return f"{self.folder}: {self.why}"


def hash_file(path: Path) -> FileEntry:
    """Digest and size of one file."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(sha256=digest.hexdigest(), size_bytes=size)


def hash_folder(
    folder: Path, read: Callable[[Path], FileEntry] | None = None
) -> dict[str, FileEntry]:
    """Entries of all files below a folder but its manifest; `read` makes one where it is given.

    Raises IntegrityError for symbolic links, which could lead out of the folder.
    """
    entries = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise IntegrityError(folder, f"{name} is a symbolic link")
        if path.is_file() and name != MANIFEST_FILE:
            entries[name] = read(path) if read is not None else hash_file(path)
    return entries


def fsync_path(path: Path) -> None:
    """Forces a file's or folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file as a whole: a reader sees the old content or the new, also after a crash."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    fsync_path(partial)
    partial.replace(path)
    fsync_path(path.parent)


def seal(folder: Path, manifest: ModelManifest) -> None:
    """Makes a folder of finished files an artifact: fsyncs all of them, then writes the manifest.

    The manifest's `files` must be `hash_folder(folder)`.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        fsync_path(path)
    write_atomically(
        folder / MANIFEST_FILE, manifest.model_dump_json(indent=1, exclude_none=True).encode()
    )


def publish_folder(partial: Path, target: Path) -> None:
    """Moves a sealed folder to its final name on the same file system, atomically.

    A target that holds the same content intact is kept, so nobody ever sees it missing; the partial
    folder is removed then. Any other target was incomplete or damaged, and is replaced.
    """
    if target.exists():
        if _is_intact(target, read_manifest(partial).digest):
            shutil.rmtree(partial)
            return
        shutil.rmtree(target)
    partial.rename(target)
    fsync_path(target.parent)


def _is_intact(folder: Path, digest: str) -> bool:
    try:
        return verify(folder).digest == digest
    except IntegrityError:
        return False


def read_manifest(folder: Path) -> ModelManifest:
    """The manifest of a folder, without looking at the other files.

    Raises IntegrityError when it is absent or not a valid manifest.
    """
    try:
        return ModelManifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError(folder, f"has no {MANIFEST_FILE}: it is not complete") from error
    except OSError as error:
        why = f"its {MANIFEST_FILE} can't be read: {error.strerror}"
        raise IntegrityError(folder, why) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(f"{part}: " for part in first["loc"])
        why = f"its {MANIFEST_FILE} can't be read: {field}{first['msg'].removeprefix('Value error, ')}"
        raise IntegrityError(folder, why) from error


def verify(folder: Path, read: Callable[[Path], FileEntry] | None = None) -> ModelManifest:
    """Reads the manifest and compares every file with it; returns it when all of them match.

    `read` is as in `hash_folder`. Raises IntegrityError that names the first file that is missing, added,
    altered or unreadable.
    """
    manifest = read_manifest(folder)
    try:
        found = hash_folder(folder, read)
    except OSError as error:  # the disk's own, or a file that went away meanwhile
        name = Path(str(error.filename)).name
        raise IntegrityError(folder, f"{name} can't be read: {error.strerror}") from error
    for name, entry in manifest.files.items():
        if name not in found:
            raise IntegrityError(folder, f"{name} is missing")
        if found[name] != entry:
            raise IntegrityError(
                folder, f"{name} does not match its digest: it was altered or is torn"
            )
    if added := sorted(found.keys() - manifest.files.keys()):
        raise IntegrityError(folder, f"{added[0]} is not in the manifest")
    return manifest
