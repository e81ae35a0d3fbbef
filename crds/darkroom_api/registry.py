"""The model registry on disk: `<root>/<namespace>/<name>/<digest>/`, and `latest` beside the digests."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from darkroom_api.artifact import ModelManifest
from darkroom_api.integrity import (
    IntegrityError,
    fsync_path,
    publish_folder,
    read_manifest,
    verify,
)
from darkroom_api.names import DEFAULT_NAMESPACE, LATEST_LINK

STAGING: Final = ".partial-"
"""How the name begins of a folder that is still being written."""


@dataclass(frozen=True)
class RegistryEntry:
    """One model of a registry, at the version that `latest` names."""

    namespace: str
    name: str
    digest: str
    folder: Path

    @property
    def model_id(self) -> str:
        """What a request calls it: the name, with the namespace before it unless it is the default."""
        return self.name if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/{self.name}"


def model_folder(root: Path, namespace: str, name: str) -> Path:
    """Where the versions of a model are."""
    return root / namespace / name


def publish(partial: Path, root: Path) -> RegistryEntry:
    """Moves a sealed model folder into a registry and lets `latest` point at it.

    The folder must be on the registry's file system (`staging_folder`).
    """
    manifest = read_manifest(partial)
    versions = model_folder(root, manifest.namespace, manifest.name)
    target = versions / manifest.digest
    publish_folder(partial, target)
    link = versions / f".{LATEST_LINK}.partial"
    link.unlink(missing_ok=True)
    link.symlink_to(manifest.digest)
    link.replace(versions / LATEST_LINK)
    fsync_path(versions)
    return RegistryEntry(manifest.namespace, manifest.name, manifest.digest, target)


def staging_folder(root: Path, namespace: str, name: str) -> Path:
    """A fresh name beside a model's versions for a folder that is still being written."""
    versions = model_folder(root, namespace, name)
    versions.mkdir(parents=True, exist_ok=True)
    return versions / f"{STAGING}{os.getpid()}"


def entries(root: Path) -> list[RegistryEntry]:
    """The models of a registry, sorted; folders without a `latest` are not models (yet)."""
    found = []
    for link in sorted(root.glob(f"*/*/{LATEST_LINK}")):
        namespace, name = link.parts[-3:-1]
        folder = link.resolve()
        if folder.parent == link.parent.resolve():
            found.append(RegistryEntry(namespace, name, folder.name, folder))
    return found


def latest(root: Path, namespace: str, name: str) -> RegistryEntry | None:
    """The newest version of one model; None when there is none."""
    folder = (model_folder(root, namespace, name) / LATEST_LINK).resolve()
    if not folder.is_dir():
        return None
    return RegistryEntry(namespace, name, folder.name, folder)


def find(root: Path, model_id: str) -> RegistryEntry:
    """The model of that id (`name` or `namespace/name`).

    Raises LookupError that lists what there is.
    """
    known = entries(root)
    for entry in known:
        if entry.model_id == model_id:
            return entry
    names = ", ".join(entry.model_id for entry in known) or "no models"
    raise LookupError(f"{root} has no model {model_id!r}; it has {names}")


def load_verified(entry: RegistryEntry) -> ModelManifest:
    """The manifest of a model whose every file was compared with it.

    Raises IntegrityError when a file or the folder's name does not match.
    """
    manifest = verify(entry.folder)
    if manifest.digest != entry.digest:
        raise IntegrityError(entry.folder, "the manifest's digest is not the folder's name")
    return manifest
