"""Finds the base model that an adapter or token embeddings go on: by its digest, wherever this machine has it."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from darkroom_api.artifact import ArtifactKind, BaseReference, ModelManifest
from darkroom_api.integrity import IntegrityError, read_manifest
from darkroom_api.registry import entries
from darkroom_api.uris import UnsupportedUriError, local_path
from darkroom_serving.errors import SERVER_ERROR, ApiError

WHOLE: Final = (ArtifactKind.BASE_MODEL, ArtifactKind.SUBJECT_MODEL)
"""Kinds of artifacts that draw by themselves."""

ADDITIONS: Final = (ArtifactKind.ADAPTER, ArtifactKind.EMBEDDINGS)
"""Kinds of artifacts that draw on their base."""

SHOWN: Final = 12
"""Hex digits of a digest in a message."""


@dataclass(frozen=True)
class Base:
    """A folder that holds a whole model, and its digest."""

    folder: Path
    digest: str


def find_base(name: str, wanted: BaseReference, served: Path, registry: Path) -> Base:
    """The base model of an addition: the server's own, one of its registry, or where its job had it.

    Raises ApiError, with both digests, when none of them has the digest that it was made on.
    """
    place = _place(wanted.uri)
    folders = (served, *(entry.folder for entry in entries(registry)))
    for folder in (*folders, *([place] if place is not None else [])):
        for manifest in _whole(folder):
            if manifest.digest == wanted.digest:
                return Base(folder, manifest.digest)
    raise _no_base(name, wanted, served, place)


def _place(uri: str) -> Path | None:
    """Where a URI leads on this machine; None where that is nowhere, or only known to the job."""
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return None
    with suppress(UnsupportedUriError, LookupError, FileNotFoundError):
        return local_path(uri, Path())
    return None


def _whole(folder: Path) -> Iterator[ModelManifest]:
    """The manifest of a whole model, or nothing."""
    with suppress(IntegrityError):
        manifest = read_manifest(folder)
        if manifest.kind in WHOLE:
            yield manifest


def _no_base(name: str, wanted: BaseReference, served: Path, place: Path | None) -> ApiError:
    goes_on = f"{name} goes on {wanted.uri} with digest {wanted.digest[:SHOWN]}"
    if place is not None and (found := next(_whole(place), None)) is not None:
        why = f"that has digest {found.digest[:SHOWN]} now"
        fix = "put the base model back that it was trained on, or train it again"
    else:
        own = next(_whole(served), None)
        why = "this server has no base model"
        if own is not None:
            why = f"this server's base model {own.name} has digest {own.digest[:SHOWN]}"
        source = "SOURCE" if place is None else place.name
        fix = (
            f"make a sealed folder of its base with darkroom import {source} NAME,"
            " and start the server with --base bases/NAME"
        )
    return ApiError(500, f"{goes_on}, and {why}; {fix}", "model", "base_not_found", SERVER_ERROR)
