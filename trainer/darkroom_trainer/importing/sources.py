"""Recognises what somebody wants to import: a base model as a folder or one file, or a classifier. No torch."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from darkroom_api.integrity import verify
from darkroom_api.names import MANIFEST_FILE
from darkroom_trainer.families.layout import FamilyLayout, known_families, weights_stem
from darkroom_trainer.importing.errors import explained, refusal
from darkroom_trainer.inputs.base.layout import (
    MODEL_INDEX,
    find_components,
    find_family,
    model_files,
    read_json,
    read_sizes,
    refuse_strange_file,
    weight_files,
)
from darkroom_trainer.inputs.base.license import License, read_license
from darkroom_trainer.inputs.base.tensors import read_header, read_metadata

PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin")
CLASSIFIER: Final = "ViTForImageClassification"
CLASSIFIER_FILES: Final = ("config.json", "preprocessor_config.json")

_OTHER_FILES: Final = {
    "lora_": "it is a LoRA: that belongs on a base model and is none",
    "text_encoders.": "it is a Stable Diffusion 3 model, which is not available yet",
    "double_blocks.": "it is a Flux model, which is not available yet",
    "control_model.": "it is a ControlNet, and not a base model",
}


class SourceKind(StrEnum):
    """What a source is, in words."""

    BASE_FOLDER = "base model in diffusers' layout"
    SINGLE_FILE = "base model in one file of the original layout"
    PICKLE = "base model in one pickled file of the original layout"
    CLASSIFIER = "image classifier"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Something that can be imported, as far as its names and headers tell."""

    kind: SourceKind
    path: Path
    size_bytes: int
    license: License


def recognise(path: Path, *, allow_pickle: bool) -> Source:
    """What a path holds; raises TrainerError when it is nothing that can be imported."""
    if not path.exists():
        raise refusal(path, "it does not exist", "check the path")
    if path.is_file():
        return _recognise_file(path, allow_pickle=allow_pickle)
    folder = _snapshot(path)
    with explained(path):
        found = _license(folder)
        if (folder / MODEL_INDEX).exists():
            return _base(folder, found)
        if (folder / "config.json").exists():
            return _classifier(folder, found)
    raise refusal(
        path,
        f"it has neither {MODEL_INDEX} (a base model) nor config.json (a classifier)",
        _files_in_it(folder),
    )


def base_files(folder: Path) -> dict[str, Path]:
    """The files of a base model that are worth a copy, by their path in the folder; of variants one."""
    components = find_components(folder)
    unused = {
        path
        for component in find_family(folder).weights
        for path in (folder / component).glob("*.safetensors*")
        if path not in _used(folder, component)
    }
    paths = [path for path in model_files(folder, tuple(components)) if path not in unused]
    return {path.relative_to(folder).as_posix(): path for path in [*paths, *_cards(folder)]}


def classifier_files(folder: Path) -> dict[str, Path]:
    """The files of a classifier that are worth a copy, by their path in the folder."""
    weights = weight_files(folder, "")
    paths = [folder / name for name in CLASSIFIER_FILES]
    paths += [*weights.files, *folder.glob("model.safetensors.index*.json"), *_cards(folder)]
    return {path.name: path for path in paths}


def _used(folder: Path, component: str) -> set[Path]:
    found = weight_files(folder, component)
    dot = f".{found.variant}" if found.variant else ""
    index = folder / component / f"{weights_stem(component)}.safetensors.index{dot}.json"
    return {*found.files, index}


def _cards(folder: Path) -> list[Path]:
    """The model card and the text of the licence."""
    return [
        path for name in ("README.md", "LICENSE*") for path in folder.glob(name) if path.is_file()
    ]


def _license(folder: Path) -> License:
    """What its manifest says where it is sealed, which is verified, or else its model card."""
    if (folder / MANIFEST_FILE).exists():
        return License.of(verify(folder).license)
    return read_license(folder)


def _base(folder: Path, found: License) -> Source:
    find_components(folder)
    read_sizes(folder)
    size_bytes = sum(path.stat().st_size for path in base_files(folder).values())
    return Source(
        kind=SourceKind.BASE_FOLDER,
        path=folder,
        size_bytes=size_bytes,
        license=found,
    )


def _classifier(folder: Path, found: License) -> Source:
    architectures = read_json(folder, "config.json").get("architectures") or ["no architecture"]
    if architectures != [CLASSIFIER]:
        raise refusal(
            folder,
            f"its config.json says {', '.join(map(str, architectures))}",
            f"use a {CLASSIFIER}",
        )
    for name in CLASSIFIER_FILES:
        read_json(folder, name)
    files = classifier_files(folder)
    for path in files.values():
        refuse_strange_file(folder, path)
    return Source(
        kind=SourceKind.CLASSIFIER,
        path=folder,
        size_bytes=sum(path.stat().st_size for path in files.values()),
        license=found,
    )


def _recognise_file(path: Path, *, allow_pickle: bool) -> Source:
    if path.suffix in PICKLES and not allow_pickle:
        raise refusal(
            path,
            "it is a pickle, which can run code",
            "use the model's .safetensors, or read it with --allow-pickle: of a pickle only tensors are taken",
        )
    if path.suffix in PICKLES:
        size_bytes, kind = path.stat().st_size, SourceKind.PICKLE
        return Source(kind=kind, path=path, size_bytes=size_bytes, license=License(None))
    if path.suffix != ".safetensors":
        raise refusal(
            path, "it is neither a folder nor a .safetensors or .ckpt file", "check the path"
        )
    try:
        names = list(read_header(path))
        metadata = read_metadata(path)
    except (OSError, ValueError) as error:
        raise refusal(path, f"it is damaged: {error}", "copy or download it again") from error
    refuse_other_layout(path, names)
    return Source(
        kind=SourceKind.SINGLE_FILE,
        path=path,
        size_bytes=path.stat().st_size,
        license=License.of(metadata.get("modelspec.license")),
    )


def refuse_other_layout(path: Path, names: list[str], family: FamilyLayout | None = None) -> None:
    """Raises TrainerError unless the tensors are those of a whole model of the family, or of any when it is None."""
    for prefix, what in _OTHER_FILES.items():
        if any(name.startswith(prefix) for name in names):
            raise refusal(path, what, f"use a model of {_read_from_files()}")
    found = family or _likeliest(names)
    absent = _absent(names, found)
    if not found.original or absent:
        raise refusal(
            path,
            f"it has no {', no '.join(absent)}" if absent else f"it is no {found.title} model",
            f"use a complete {found.title} model"
            if absent
            else f"use a model of {_read_from_files()}",
        )


def _likeliest(names: list[str]) -> FamilyLayout:
    """The family of which a file has the largest share of the parts."""
    families = [family for family in known_families().values() if family.original]
    return min(families, key=lambda family: len(_absent(names, family)) / len(family.original))


def _absent(names: list[str], family: FamilyLayout) -> list[str]:
    return [
        f"{part} ({prefix}*)"
        for prefix, part in family.original.items()
        if not any(name.startswith(prefix) for name in names)
    ]


def _read_from_files() -> str:
    return ", ".join(family.title for family in known_families().values() if family.original)


def _snapshot(folder: Path) -> Path:
    """The folder itself, or of a repository in a Hugging Face cache the commit that it was asked for last."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return folder
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    main = folder / "refs" / "main"
    if main.is_file() and (named := snapshots / main.read_text().strip()) in found:
        return named
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise refusal(folder, f"it has the snapshots {names}", "name one of them")


def _files_in_it(folder: Path) -> str:
    single = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", *PICKLES))
    return f"import the file: darkroom import {single[0]} NAME" if single else "check the path"
