"""Checkpoints on disk: which one a run continues from, and how a new one comes to exist.

A checkpoint is a folder `step-00000100`: DeepSpeed's files (one set a rank), `numerics.json` and,
written last, `manifest.json` with the `TrainState`. It exists if and only if the manifest verifies.
Imports no torch: a driver looks for a checkpoint before it starts anything.
"""

import contextlib
import errno
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from darkroom_api.artifact import (
    ArtifactKind,
    ModelManifest,
    TrainState,
    content_digest,
    json_digest,
)
from darkroom_api.integrity import (
    IntegrityError,
    hash_folder,
    publish_folder,
    read_manifest,
    seal,
    verify,
)
from darkroom_api.job import (
    ObjectMeta,
    PersonalizationJobSpec,
    SubjectKind,
)
from darkroom_api.run_layout import CHECKPOINTS, PARTIAL_CHECKPOINT
from darkroom_api.status import Reason
from darkroom_api.training import LearningRateSchedule, Training
from darkroom_api.words import counted
from darkroom_trainer.errors import TrainerError

logger = logging.getLogger(__name__)

NUMERICS_FILE: Final = "numerics.json"
"""The fields of the spec that fixed the numbers of a checkpoint."""

DECIMALS: Final = (
    "priorPreservation.weight",
    "priorPreservation.guidanceScale",
    "training.ema.decay",
    "training.learningRate",
    "training.maxGradNorm",
    "training.newTokens.learningRate",
    "training.noiseOffset",
    "training.snrGamma",
    "training.textEncoderLearningRate",
)
"""Fields that hold a decimal number as text, which can be spelt in many ways."""

ADDED: Final = MappingProxyType(
    {
        "training.aspectRatioBuckets": False,
        "training.gradientCheckpointing": False,
        "training.learningRateSchedule": "Constant",
        "training.maxGradNorm": 1.0,
        "training.noiseOffset": 0.0,
        "training.optimizer": "AdamW",
        "training.snrGamma": None,
        "training.textEncoderLearningRate": None,
        "training.textEncoderStopStep": None,
        "training.warmupSteps": 0,
    }
)
"""Fields that the first version didn't know, and how it trained: left out where a job trains the same."""

DEEPSPEED_FOLDER: Final = "deepspeed"
"""DeepSpeed's files in a checkpoint."""

FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers that mean: there is no room for this file."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint whose files all match its manifest."""

    folder: Path
    state: TrainState


def numerics(spec: PersonalizationJobSpec) -> dict[str, Any]:
    """The fields that decide which numbers a run computes, by their paths below `spec`.

    What only says how long, how often or where to is left out, and the number of workers too: it
    is in the `TrainState`. Numbers are numbers: "3e-4" and "0.0003" are the same training.
    """
    wire = spec.model_dump(mode="json", by_alias=True)
    subject = ["identifier", "classNoun"]
    if spec.subject.kind is SubjectKind.STYLE:  # which has another prompt
        subject.append("kind")
    kept = {
        "baseModel": wire["baseModel"],
        "subject": {key: wire["subject"][key] for key in subject},
        "priorPreservation": wire["priorPreservation"],
        "training": _of_method(spec.training, wire["training"]),
        "scale": {
            key: wire["scale"][key]
            for key in ("gpusPerWorker", "precision", "zeroStage", "offload")
        },
    }
    fields = _as_numbers(
        {
            f"{section}.{key}": value
            for section, fields in kept.items()
            for key, value in fields.items()
        }
    )
    as_before = {path for path, value in ADDED.items() if fields[path] == value}
    if spec.training.learning_rate_schedule is LearningRateSchedule.CONSTANT:
        as_before.add("training.maxSteps")  # it may be continued to more steps
    return {path: value for path, value in fields.items() if path not in as_before}


def _of_method(training: Training, wire: dict[str, Any]) -> dict[str, Any]:
    """The fields of `spec.training`; those of the method and of EMA by name, with their defaults."""
    lora, tokens = training.adapters, training.added_tokens
    fields = {key: value for key, value in wire.items() if key not in ("lora", "newTokens", "ema")}
    for name, own in (("lora", lora), ("newTokens", tokens), ("ema", training.ema)):
        if own is not None:
            own_fields = own.model_dump(mode="json", by_alias=True)
            fields |= {f"{name}.{key}": value for key, value in own_fields.items()}
    if lora is not None:
        fields["lora.alpha"] = lora.scaled_alpha
    return fields


def _as_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {path: float(fields[path]) for path in DECIMALS if fields.get(path) is not None}


def differing_field(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first field by which two trainings differ; None when they compute the same numbers.

    Checkpoints of earlier versions have decimal numbers as they were typed.
    """
    before, now = _as_numbers(before), _as_numbers(now)
    differing = (key for key in sorted(now | before) if now.get(key) != before.get(key))
    return next(differing, None)


def numerics_digest(spec: PersonalizationJobSpec) -> str:
    """Sha256 of the fields that decide which numbers a run computes."""
    return json_digest(numerics(spec))


def newest_checkpoint(
    run_folder: Path, owner: ObjectMeta, verified: Checkpoint | None = None
) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of a job that is complete, and a warning for each newer one that isn't.

    One that was `verified` before is not read again: only newer ones take its place.
    """
    warnings = []
    for folder in _folders(run_folder / CHECKPOINTS):
        if verified is not None and folder.name <= verified.folder.name:
            break
        try:
            manifest = verify(folder)
        except IntegrityError as error:
            warnings.append(f"checkpoint {folder.name} is not used: {error.why}")
            continue
        if not _is_of(manifest, owner):
            warnings.append(f"checkpoint {folder.name} is not used: it is of another job")
        elif manifest.state is not None:
            return Checkpoint(folder, manifest.state), warnings
    return verified, warnings


def num_checkpoints(run_folder: Path) -> int:
    """How many folders of checkpoints are there, complete or not."""
    return len(_folders(run_folder / CHECKPOINTS))


def newest_step(run_folder: Path, owner: ObjectMeta) -> int:
    """The step that a job has reached, as the manifests say, without reading the files; 0 without any."""
    for folder in _folders(run_folder / CHECKPOINTS):
        with contextlib.suppress(IntegrityError):
            manifest = read_manifest(folder)
            if _is_of(manifest, owner) and manifest.state is not None:
                return manifest.state.step
    return 0


def refuse_other_run(
    checkpoint: Checkpoint, spec: PersonalizationJobSpec, inputs_digest: str
) -> None:
    """Raises TrainerError when continuing from a checkpoint would mix two different trainings."""
    fresh = "start afresh with --restart"
    step, state = checkpoint.state.step, checkpoint.state
    if step > spec.training.max_steps:
        raise TrainerError(
            Reason.SPEC_CHANGED,
            f"spec.training.maxSteps: there is a checkpoint of step {step} already and the job has"
            f" {spec.training.max_steps}",
            f"set it to {step} or more, or {fresh}",
        )
    if state.world_size != spec.scale.workers:
        raise TrainerError(
            Reason.WORLD_SIZE_CHANGED,
            f"spec.scale.workers: the checkpoint of step {step} was written by"
            f" {counted(state.world_size, 'worker')} and the job has {spec.scale.workers}",
            f"set it to {state.world_size}, or {fresh}",
        )
    if state.spec_digest != numerics_digest(spec):
        before, now = _noted_numerics(checkpoint.folder), numerics(spec)
        if (field := differing_field(before, now)) is not None:
            raise TrainerError(
                Reason.SPEC_CHANGED,
                f"spec.{field}: the checkpoint of step {step} was trained with"
                f" {before.get(field)!r} and the job says {now.get(field)!r}",
                f"set it back, or {fresh}",
            )
    if state.inputs_digest != inputs_digest:
        raise TrainerError(
            Reason.INPUTS_CHANGED,
            "spec.subject.images, spec.baseModel: the photos, their captions or the base model are not those that"
            f" the checkpoint of step {step} was trained on",
            f"put them back, or {fresh}",
        )


def checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run_folder / CHECKPOINTS / folder_name(step)


def folder_name(step: int) -> str:
    """Name of a checkpoint's folder; sorts by step."""
    return f"step-{step:08d}"


def partial_folder(run_folder: Path) -> Path:
    """Where a checkpoint is written before it is complete; what a killed run left there is replaced."""
    return run_folder / CHECKPOINTS / PARTIAL_CHECKPOINT


def begin_checkpoint(partial: Path, spec: PersonalizationJobSpec) -> None:
    """Makes the folders of a new checkpoint, so that no rank has to, and notes the numerics."""
    discard(partial)
    (partial / DEEPSPEED_FOLDER).mkdir(parents=True)
    text = json.dumps(numerics(spec), indent=1, ensure_ascii=False)
    (partial / NUMERICS_FILE).write_text(text, encoding="utf-8")


def finish_checkpoint(partial: Path, owner: ObjectMeta, state: TrainState, keep: int) -> Path:
    """Lets a checkpoint exist once all ranks have written their files; removes those it replaces.

    They are the old ones beyond `keep`, and newer ones that nobody can continue from. One of this step
    and training that is there already holds the same numbers, and stays.
    """
    target = partial.parent / folder_name(state.step)
    if _is_as_good(target, owner, state):
        discard(partial)
    else:
        _publish(partial, target, owner, state)
    found = _folders(target.parent)
    position = found.index(target)
    useless = [newer for newer in found[:position] if _is_useless(newer, owner, target, state)]
    for replaced in (*useless, *found[position + keep :]):
        discard(replaced)
    return target


def _publish(partial: Path, target: Path, owner: ObjectMeta, state: TrainState) -> None:
    files = hash_folder(partial)
    manifest = ModelManifest(
        kind=ArtifactKind.CHECKPOINT,
        name=owner.name,
        namespace=owner.namespace,
        files=files,
        digest=content_digest(files),
        state=state,
    )
    seal(partial, manifest)
    discard(target)
    publish_folder(partial, target)


def _folders(checkpoints: Path) -> list[Path]:
    """Folders of all checkpoints, complete or not, the newest first."""
    return sorted(checkpoints.glob("step-*"), reverse=True)


def _is_of(manifest: ModelManifest, owner: ObjectMeta) -> bool:
    return (manifest.namespace, manifest.name) == (owner.namespace, owner.name)


def _is_as_good(folder: Path, owner: ObjectMeta, state: TrainState) -> bool:
    """Whether a folder holds the checkpoint of that state already, whole."""
    try:
        manifest = verify(folder)
    except IntegrityError:
        return False
    return _is_of(manifest, owner) and manifest.state == state


def _is_useless(folder: Path, owner: ObjectMeta, saved: Path, state: TrainState) -> bool:
    """Whether no attempt at the training that was saved with this state can ever continue from a folder."""
    try:
        manifest = verify(folder)
    except IntegrityError as error:
        return not _is_unreadable(error)
    if manifest.state is None or not _is_of(manifest, owner):
        return True
    if manifest.state.inputs_digest != state.inputs_digest:
        return True
    if manifest.state.spec_digest == state.spec_digest:
        return False
    return differing_field(_noted_numerics(folder), _noted_numerics(saved)) is not None


def _noted_numerics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / NUMERICS_FILE).read_bytes())
    return found


def _is_unreadable(error: IntegrityError) -> bool:
    """Whether the disk failed: what can't be read now may be whole, and readable later."""
    cause = error.__cause__
    return isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)


def discard(folder: Path) -> None:
    """Removes a folder if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def discard_all(run_folder: Path) -> None:
    """Removes every checkpoint of a run: it starts afresh."""
    discard(run_folder / CHECKPOINTS)


def failure_of(write: Callable[[], object]) -> str | None:
    """Runs something that writes files; None, or why it failed: `DiskFull` or the system's words."""
    try:
        write()
    except OSError as error:
        return describe_failure(error)
    return None


def describe_failure(error: OSError) -> str:
    """One word for a full disk, else what the system says."""
    return "DiskFull" if error.errno in FULL_DISK else f"WriteFailed: {error}"
