"""Seals a classifier's folder as Hugging Face's `save_pretrained` writes it: a checked copy in the user's cache."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Final

from darkroom_api.artifact import ArtifactKind, ModelManifest, content_digest
from darkroom_api.integrity import IntegrityError, hash_folder, publish_folder, seal
from darkroom_api.registry import STAGING
from darkroom_serving.errors import ServingError

CONFIG: Final = "config.json"
PROCESSOR: Final = "preprocessor_config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

CODE_FIELD: Final = "auto_map"
"""Where a configuration names Python files of its folder that should be run."""

PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")

SHOWN: Final = 12
"""Hex digits of a digest in a folder's name."""


def classifier_cache() -> Path:
    """Where the copies are: in the user's cache, one folder for each content."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "darkroom" / "classifiers"


def seal_classifier(folder: Path, cache: Path) -> Path:
    """The sealed copy of a folder without a manifest; the folder itself stays as it is.

    Raises ServingError, which names the file, for one that is no classifier, would run code, has no
    safetensors or leads out of its folder.
    """
    names = _files_of(folder)
    partial = cache / f"{STAGING}{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in names:
            shutil.copyfile(folder / name, partial / name)
        return _publish(partial, cache, _name_of(folder))
    except (OSError, IntegrityError) as error:
        raise ServingError(
            f"--classifier: {folder} can't be copied to {cache}: {error}; set XDG_CACHE_HOME to a"
            " folder with room"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: Path, cache: Path, name: str) -> Path:
    files = hash_folder(partial)
    digest = content_digest(files)
    kind = ArtifactKind.CLASSIFIER
    seal(partial, ModelManifest(kind=kind, name=name, files=files, digest=digest))
    target = cache / f"{name}-{digest[:SHOWN]}"
    publish_folder(partial, target)
    return target


def _name_of(folder: Path) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", folder.resolve().name).strip("-") or "classifier"


def _files_of(folder: Path) -> list[str]:
    """Names of the files that the model consists of, all of them checked."""
    architectures = _read_json(folder, CONFIG).get("architectures") or []
    if "ForImageClassification" not in str(architectures):
        raise _refusal(folder, f"{CONFIG} names no image classifier", "give a classifier's folder")
    _read_json(folder, PROCESSOR)
    weights = _weights(folder)
    for name in weights:
        _check_file(folder, name)
    return [CONFIG, PROCESSOR, *weights]


def _weights(folder: Path) -> list[str]:
    if (folder / WEIGHTS).exists():
        return [WEIGHTS]
    if (folder / INDEX).exists():
        shards = _read_json(folder, INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise _refusal(folder, f"{INDEX} has no weight_map", "copy or download it again")
        return [INDEX, *sorted({str(name) for name in shards.values()})]
    if pickles := sorted(path.name for pattern in PICKLES for path in folder.glob(pattern)):
        raise _refusal(
            folder,
            f"of its weights there is only {pickles[0]}, a pickle, which can run code",
            "save the model with save_pretrained of transformers 5, which writes safetensors",
        )
    raise _refusal(folder, f"it has no {WEIGHTS}", "copy or download the model again")


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    _check_file(folder, name)
    try:
        value = json.loads((folder / name).read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _refusal(folder, f"{name} is not a JSON object", "copy or download it again")
    if CODE_FIELD in value:
        raise _refusal(
            folder,
            f"{name} has {CODE_FIELD}: it wants Python files of its folder to be run",
            "use a model of an architecture that transformers has",
        )
    return value


def _check_file(folder: Path, name: str) -> None:
    """A regular file of the folder; a link may lead to where a Hugging Face cache keeps its files."""
    if Path(name).name != name:
        raise _refusal(
            folder, f"{INDEX} names {name!r}, which is no file of it", "use intact files"
        )
    target, home = (folder / name).resolve(), folder.resolve()
    blobs = [home.parent.parent / "blobs"] if home.parent.name == "snapshots" else []
    if not any(target.is_relative_to(place) for place in (home, *blobs)):
        raise _refusal(
            folder,
            f"{name} is a symbolic link that leads out of it",
            "copy the model with cp -rL",
        )
    if not target.exists():
        raise _refusal(folder, f"it has no {name}", "give the folder of a complete classifier")
    if not target.is_file():
        raise _refusal(folder, f"{name} is no regular file", "copy or download it again")


def _refusal(folder: Path, what: str, fix: str) -> ServingError:
    return ServingError(f"--classifier: {folder}: {what}; {fix}")
