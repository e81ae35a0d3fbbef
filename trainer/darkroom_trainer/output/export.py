"""Turns trained weights into a published model: a diffusers folder that any pipeline loads.

Only safetensors, named and laid out as in the base model; the same weights give the same bytes.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from darkroom_api.artifact import (
    BaseReference,
    ModelManifest,
    Training,
    content_digest,
)
from darkroom_api.integrity import hash_folder, seal
from darkroom_api.job import ExportPrecision, PersonalizationJob
from darkroom_api.registry import STAGING, RegistryEntry, publish, staging_folder
from darkroom_api.status import Reason
from darkroom_api.training import Method
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.base.keys import class_name_of
from darkroom_trainer.inputs.base.layout import MODEL_INDEX, TEXT_FILES, plain_name, weight_files
from darkroom_trainer.inputs.base_model import BaseModel
from darkroom_trainer.output.additions import (
    PUBLISHED_MODE,
    addition_of,
    kind_of,
    write_addition,
)
from darkroom_trainer.output.checkpoint import FULL_DISK
from darkroom_trainer.output.model_card import write_card

CONTACT_SHEET: Final = "contact-sheet.png"
"""Name of the last validation grid in a published model."""

ABANDONED_SECONDS: Final = 24 * 3600.0
"""No export takes that long: a staging folder that is older is nobody's."""

_DTYPES: Final = {ExportPrecision.FP16: torch.float16, ExportPrecision.FP32: torch.float32}
_VERSIONED: Final = ("darkroom", "torch", "diffusers", "transformers", "peft", "deepspeed", "ray")


def export_model(
    job: PersonalizationJob,
    base: BaseModel,
    weights: Mapping[str, Mapping[str, torch.Tensor]],
    *,
    root: Path,
    steps: int,
    created: str,
    contact_sheet: Path | None = None,
) -> RegistryEntry:
    """Writes the model of a job and publishes it in the registry at `root`.

    `weights` has the complete fp32 state dict of each trained component, such as `unet` and
    `text_encoder`; what is not in it is the base model's. Of adapters and new tokens it has only these,
    and nothing of the base is published. `created` is an RFC 3339 time.

    Raises TrainerError when the disk is full or the folder can't be written; nothing half-written
    stays, and `latest` still names the model before.
    """
    with _staging(root, job) as partial:
        if job.spec.training.method is Method.FULL:
            _write_folder(partial, job, base, weights)
        else:
            write_addition(partial, job.spec, weights, _DTYPES[job.spec.output.precision])
        if contact_sheet is not None:
            shutil.copyfile(contact_sheet, partial / CONTACT_SHEET)
        write_card(partial, job, base, with_contact_sheet=contact_sheet is not None)
        seal(partial, _manifest(partial, job, base, steps, created))
        return publish(partial, root)


@contextmanager
def _staging(root: Path, job: PersonalizationJob) -> Iterator[Path]:
    """A fresh folder on the registry's disk; what is left of it after an error is removed."""
    partial = None
    try:
        partial = staging_folder(root, job.metadata.namespace, job.metadata.name)
        shutil.rmtree(partial, ignore_errors=True)
        _remove_abandoned(partial.parent)
        partial.mkdir()
        yield partial
    except (OSError, SafetensorError) as error:
        raise _not_published(root, error) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(versions: Path) -> None:
    """Removes what exports left that were killed, perhaps on another node."""
    for folder in versions.glob(f"{STAGING}*"):
        if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _not_published(root: Path, error: OSError | SafetensorError) -> TrainerError:
    number = error.errno if isinstance(error, OSError) else _os_error_number(str(error))
    if number in FULL_DISK:
        return TrainerError(
            Reason.DISK_FULL,
            f"spec.output.uri: the disk of {root} is full; the model was not published",
            "free some space and run the job again: it continues from its last checkpoint",
        )
    return TrainerError(
        Reason.EXPORT_FAILED,
        f"spec.output.uri: the model can't be written below {root}: {error}",
        "check the path and its permissions and run the job again",
    )


def _os_error_number(message: str) -> int | None:
    """The error number that safetensors hides in its message, as in `… (os error 28)`."""
    found = re.search(r"os error (\d+)", message)
    return int(found[1]) if found else None


def _write_folder(
    partial: Path,
    job: PersonalizationJob,
    base: BaseModel,
    weights: Mapping[str, Mapping[str, torch.Tensor]],
) -> None:
    shutil.copyfile(base.folder / MODEL_INDEX, partial / MODEL_INDEX)
    dtype = _DTYPES[job.spec.output.precision]
    for component in base.components:
        (partial / component).mkdir()
        if component in base.family.weights:
            _write_weights(partial, base, component, weights.get(component), dtype)
        _copy_rest(base, component, partial / component)


def _write_weights(
    partial: Path,
    base: BaseModel,
    component: str,
    trained: Mapping[str, torch.Tensor] | None,
    dtype: torch.dtype,
) -> None:
    original: dict[str, torch.Tensor] = {}
    for path in weight_files(base.folder, component).files:
        original |= load_file(path)
    tensors = original if trained is None else _under_old_names(component, trained, original)
    file = partial / component / f"{base.family.weights[component]}.safetensors"
    save_file(
        {
            name: (_cast(tensor, dtype) if name in tensors else tensor)
            for name, tensor in (original | tensors).items()
        },
        file,
        metadata={"format": "pt"},
    )
    file.chmod(PUBLISHED_MODE)  # safetensors keeps it to its owner


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Numbers in the output's format; what is no floating-point number, such as positions, as it is."""
    plain = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
    return plain.contiguous()


def _under_old_names(
    component: str, trained: Mapping[str, torch.Tensor], original: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Trained tensors under the names that the base's file has for them.

    What the file has beside them is not among them: nobody trained it, and it is kept as it is.
    """
    names = {class_name_of(component, name): name for name in original}
    missing = trained.keys() - names.keys()
    assert not missing, f"the base was let through without {sorted(missing)[:3]}"
    return {names[plain]: tensor for plain, tensor in trained.items()}


def _copy_rest(base: BaseModel, component: str, target: Path) -> None:
    """Copies a component's configuration, and the weights of those that are never cast."""
    source, suffixes = base.folder / component, set(TEXT_FILES)
    if component not in base.family.weights:
        suffixes.add(".safetensors")
    for path in sorted(source.iterdir()):
        plain = plain_name(path.name)
        if path.suffix not in suffixes or ".index." in path.name:
            continue
        if plain == path.name or not (source / plain).exists():  # of two variants the plain one
            shutil.copyfile(path, target / plain)
    if (target / "config.json").exists() and component in base.family.kept_in_full:
        _load_in_full_precision(target / "config.json")


def _load_in_full_precision(config: Path) -> None:
    """Has transformers load as float32 what may be stored as float16.

    diffusers does so with its own parts; else a pipeline that is loaded plainly mixes both and fails.
    """
    content: dict[str, Any] = json.loads(config.read_bytes())
    content.pop("torch_dtype", None)
    content["dtype"] = "float32"
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _manifest(
    partial: Path, job: PersonalizationJob, base: BaseModel, steps: int, created: str
) -> ModelManifest:
    files = hash_folder(partial)
    subject = job.spec.subject
    return ModelManifest(
        kind=kind_of(job.spec),
        name=job.metadata.name,
        namespace=job.metadata.namespace,
        files=files,
        digest=content_digest(files),
        license=base.license.declared,
        base=BaseReference(uri=base.uri, digest=base.digest),
        adds=addition_of(job.spec),
        training=Training(
            spec=job.spec.model_dump(mode="json", by_alias=True),
            instance_prompt=subject.instance_prompt,
            class_prompt=subject.class_prompt,
            steps=steps,
            seed=job.spec.training.seed,
            created=created,
            versions={package: version(package) for package in _VERSIONED},
        ),
    )
