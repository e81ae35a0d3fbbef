"""Imports a model: what would happen is worked out first, and a folder appears only when it is whole."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from darkroom_api.artifact import ArtifactKind, ModelManifest, content_digest
from darkroom_api.integrity import IntegrityError, hash_folder, publish_folder, seal, verify
from darkroom_api.registry import STAGING
from darkroom_api.status import Reason
from darkroom_trainer.driver import disk
from darkroom_trainer.driver.base_check import class_warnings
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.importing.errors import explained, refusal
from darkroom_trainer.importing.sources import (
    Source,
    SourceKind,
    base_files,
    classifier_files,
    recognise,
)
from darkroom_trainer.inputs.base.layout import find_components, plain_name, read_sizes
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.output.checkpoint import FULL_DISK

NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")

CHUNK_BYTES: Final = 1 << 24
"""How much is copied between two reports."""

ONE_FILE: Final = (SourceKind.SINGLE_FILE, SourceKind.PICKLE)

Report = Callable[[int], None]
"""Called with the bytes that were written since the last call."""


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """What an import will do."""

    source: Source
    name: str
    target: Path

    configs: Path | None
    """Folder of the configurations and the tokenizer of a model in one file."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import has done."""

    folder: Path
    kind: ArtifactKind
    digest: str

    was_there: bool
    """Whether the same content was there already."""

    warnings: tuple[str, ...]


def plan_import(
    path: Path, name: str, output: Path, *, configs: Path | None, allow_pickle: bool
) -> ImportPlan:
    """Recognises the source and the place it goes to; nothing is written. Raises TrainerError."""
    if not NAME.fullmatch(name):
        raise TrainerError(
            Reason.FOLDER_UNUSABLE,
            f"NAME: {name!r} can't be the name of a folder",
            "use letters, digits, ., _ and -",
        )
    source = recognise(path, allow_pickle=allow_pickle)
    if source.kind in ONE_FILE:
        _check_configs(source.path, configs)
    elif configs is not None:
        raise refusal(path, "it has configurations of its own", "leave out --config-from")
    target = output / name
    disk.refuse_unwritable(
        [
            disk.Target(
                field="--output", path=target, fix="choose another --output, or mend that one"
            )
        ]
    )
    load = disk.Load(what=f"the model {name}", path=target, size_bytes=source.size_bytes)
    disk.refuse_lack_of_room([load], disk.volume_at)
    return ImportPlan(source=source, name=name, target=target, configs=configs)


def run_import(plan: ImportPlan, report: Report) -> Imported:
    """Writes, checks and seals; raises TrainerError, and leaves nothing half-written then."""
    output = plan.target.parent
    output.mkdir(parents=True, exist_ok=True)
    partial = output / f"{STAGING}{plan.name}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with explained(plan.source.path):
            _write(plan, partial, report)
            kind, warnings = _check(plan.source, partial)
        manifest = _sealed(plan, partial, kind)
        was_there = _refuse_other_content(plan.target, manifest.digest)
        publish_folder(partial, plan.target)
    except OSError as error:
        raise _not_written(plan.target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Imported(
        folder=plan.target,
        kind=kind,
        digest=manifest.digest,
        was_there=was_there,
        warnings=tuple(warnings),
    )


def _check_configs(source: Path, configs: Path | None) -> None:
    if configs is None:
        raise refusal(
            source,
            "it holds weights, but neither configurations nor a tokenizer",
            "name a folder in diffusers' layout of the same family that has them: --config-from FOLDER"
            " (for example the Hugging Face cache's snapshot of the model that it was made from)",
        )
    with explained(configs):
        find_components(configs)
        read_sizes(configs)


def _write(plan: ImportPlan, partial: Path, report: Report) -> None:
    source = plan.source
    if plan.configs is not None:
        from darkroom_trainer.importing.original_layout import convert

        convert(source.path, plan.configs, partial)
        report(source.size_bytes)
        return
    files = base_files if source.kind is SourceKind.BASE_FOLDER else classifier_files
    for name, path in files(source.path).items():
        place, file = os.path.split(name)
        _copy(path, partial / place / plain_name(file), report)


def _copy(path: Path, target: Path, report: Report) -> None:
    """Copies a file under its plain name; in an index the names of shards are made plain, too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.name.endswith(".index.json"):
        index = json.loads(path.read_bytes())
        index["weight_map"] = {key: plain_name(name) for key, name in index["weight_map"].items()}
        target.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        report(path.stat().st_size)
        return
    with path.open("rb") as source, target.open("wb") as copy:
        while chunk := source.read(CHUNK_BYTES):
            copy.write(chunk)
            report(len(chunk))


def _check(source: Source, partial: Path) -> tuple[ArtifactKind, list[str]]:
    """What was written is what would be read: its kind, and what is doubtful in it."""
    if source.kind is SourceKind.CLASSIFIER:
        from darkroom_trainer.importing.classifier_check import check_classifier

        check_classifier(partial)
        return ArtifactKind.CLASSIFIER, []
    doubts = class_warnings(inspect_base(str(source.path), partial))
    return ArtifactKind.BASE_MODEL, [f"{doubt.message}; {doubt.fix}" for doubt in doubts]


def _sealed(plan: ImportPlan, partial: Path, kind: ArtifactKind) -> ModelManifest:
    for path in partial.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # who trains is seldom who imported
    files = hash_folder(partial)
    manifest = ModelManifest(
        kind=kind,
        name=plan.name,
        files=files,
        digest=content_digest(files),
        license=plan.source.license.declared,
    )
    seal(partial, manifest)
    return manifest


def _refuse_other_content(target: Path, digest: str) -> bool:
    """Whether the same content is there already; raises TrainerError when something else is."""
    if not os.path.lexists(target):
        return False
    try:
        if verify(target).digest == digest:
            return True
    except IntegrityError:
        pass
    raise TrainerError(
        Reason.FOLDER_UNUSABLE,
        f"NAME: {target} is there already, with other content",
        "choose another NAME, or remove that folder",
    )


def _not_written(target: Path, error: OSError) -> TrainerError:
    full = error.errno in FULL_DISK
    return TrainerError(
        Reason.DISK_FULL if full else Reason.FOLDER_UNUSABLE,
        f"--output: {target} can't be written: {error.strerror or error}",
        "free some space" if full else "choose another --output",
    )
