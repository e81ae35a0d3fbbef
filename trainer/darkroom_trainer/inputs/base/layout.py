"""Diffusers' layout of a base model: its family, its components, their classes and their files."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.families.layout import FamilyLayout, Sizes, known_families, weights_stem

MODEL_INDEX: Final = "model_index.json"

_OLD_CLASSES: Final = MappingProxyType({"CLIPFeatureExtractor": "CLIPImageProcessor"})
_BACKEND: Final = re.compile(r"(Fast|Pil)$")
"""How transformers calls implementations of one class."""

VARIANTS: Final = (None, "fp16", "bf16")
"""Variants of the weights that are read, the preferred one first."""

TEXT_FILES: Final = (".json", ".txt", ".jinja")
"""Endings of configurations and of what tokenizers have."""

MODEL_FILES: Final = (*TEXT_FILES, ".safetensors")
"""Endings of the files that count as a model's content."""


@dataclass(frozen=True)
class WeightFiles:
    """Where the weights of a component are."""

    variant: str | None
    """What diffusers and transformers call their variant; None for the plain one."""

    files: tuple[Path, ...]
    """One safetensors file, or all shards."""


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A configuration; raises UnusableBaseError when it is absent or no JSON object."""
    try:
        content = json.loads((folder / name).read_bytes())
    except FileNotFoundError as error:
        raise UnusableBaseError(f"{folder} has no {name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableBaseError(f"{folder / name} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise UnusableBaseError(f"{folder / name} is not a JSON object")
    return content


def find_family(folder: Path) -> FamilyLayout:
    """The family of a folder; raises UnusableBaseError when it is of none."""
    return _family(read_json(folder, MODEL_INDEX))


def read_sizes(folder: Path) -> Sizes:
    """Reads and checks the configurations; raises UnusableBaseError."""
    family = find_family(folder)
    for tokenizer in dict.fromkeys(family.encoders.values()):
        _refuse_no_vocabulary(folder, tokenizer)
    return family.read_sizes(lambda name: read_json(folder, name))


def find_components(folder: Path) -> dict[str, str]:
    """The components of a folder and the class of each, by name; no weights are read.

    Raises UnusableBaseError when one is missing, is of another class or has its weights only as
    pickles, and for links that lead out of the folder.
    """
    index = read_json(folder, MODEL_INDEX)
    classes = _check_classes(index, _family(index))
    for component in classes:
        if not (folder / component).is_dir():
            raise UnusableBaseError(f"it has no folder {component}")
    for path in model_files(folder, tuple(classes)):
        refuse_strange_file(folder, path)
    for component in classes:
        _refuse_pickles(folder, component)
    return classes


def model_files(folder: Path, components: tuple[str, ...]) -> list[Path]:
    """The files that count as the model's content, sorted."""
    paths = [folder / MODEL_INDEX]
    for component in components:
        paths += (path for path in (folder / component).iterdir() if path.suffix in MODEL_FILES)
    return sorted(paths)


def weight_files(folder: Path, component: str) -> WeightFiles:
    """The weights of a component; raises UnusableBaseError when there are none or a shard is missing."""
    stem, shown = weights_stem(component), component or "it"  # "" is the folder itself
    for variant in VARIANTS:
        dot = f".{variant}" if variant else ""
        whole = folder / component / f"{stem}{dot}.safetensors"
        index = folder / component / f"{stem}.safetensors.index{dot}.json"
        if whole.is_file() and index.is_file():
            raise UnusableBaseError(
                f"{shown} has both {whole.name} and {index.name}",
                "remove the one that is not to be used",
            )
        if whole.is_file():
            return WeightFiles(variant, (whole,))
        if index.is_file():
            return WeightFiles(variant, tuple(_shards(folder, component, index.name)))
    if shards := sorted((folder / component).glob(f"{stem}*-of-*.safetensors")):
        raise UnusableBaseError(
            f"{shown} has {shards[0].name} and no {stem}.safetensors.index.json",
            "copy the index of the shards too",
        )
    raise UnusableBaseError(f"{shown} has no {stem}.safetensors")


def plain_name(name: str) -> str:
    """The name of weights or of their index without the variant: `model.fp16.safetensors` is `model.safetensors`."""
    return re.sub(rf"\.({'|'.join(filter(None, VARIANTS))})(?=[-.])", "", name)


def _shards(folder: Path, component: str, index: str) -> Iterator[Path]:
    places = read_json(folder / component, index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UnusableBaseError(f"{component}/{index} has no weight_map")
    for name in sorted({str(place) for place in places.values()}):
        shard = folder / component / name
        if Path(name).name != name:
            raise UnusableBaseError(f"{component}/{index} names {name}, which is not in its folder")
        if not shard.is_file():
            raise UnusableBaseError(
                f"{component}/{name} is missing, a shard that {index} names",
                "copy or download the missing file",
            )
        yield shard


def _family(index: dict[str, Any]) -> FamilyLayout:
    pipeline, known = str(index.get("_class_name")), known_families()
    if pipeline not in known:
        raise UnusableBaseError(f"{MODEL_INDEX} says {pipeline}, not {' or '.join(sorted(known))}")
    return known[pipeline]


def _refuse_no_vocabulary(folder: Path, tokenizer: str) -> None:
    place = folder / tokenizer
    old = all((place / name).is_file() for name in ("vocab.json", "merges.txt"))
    if not old and not (place / "tokenizer.json").is_file():
        raise UnusableBaseError(
            f"its {tokenizer} has neither tokenizer.json nor vocab.json with merges.txt"
        )


def _check_classes(index: dict[str, Any], family: FamilyLayout) -> dict[str, str]:
    classes = {
        name: str(value[1])
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[1] is not None
    }
    for name in family.required:
        if name not in classes:
            raise UnusableBaseError(f"it has no {name.replace('_', ' ')} ({MODEL_INDEX})")
    allowed = {**family.required, **family.optional}
    for name, found in classes.items():
        plain = _BACKEND.sub("", found)
        if name not in allowed or allowed[name] not in ("", _OLD_CLASSES.get(plain, plain)):
            raise UnusableBaseError(f"its {name} is of class {found}, which isn't supported")
    return dict(sorted(classes.items()))


def refuse_strange_file(folder: Path, path: Path) -> None:
    """A link may lead to where a Hugging Face cache keeps its files, and nowhere else; raises UnusableBaseError."""
    name = path.relative_to(folder).as_posix()
    target = path.resolve()
    if not any(target.is_relative_to(place) for place in _own_places(folder)):
        raise UnusableBaseError(
            f"{name} is a symbolic link that leads out of {folder}", "copy the model with cp -rL"
        )
    if not target.is_file():
        raise UnusableBaseError(
            f"{name} is {'no regular file' if target.exists() else 'a link to a file that is gone'}",
            "copy or download the file again",
        )


def _own_places(folder: Path) -> tuple[Path, ...]:
    """The folder itself and, for `models--ORG--NAME/snapshots/COMMIT`, all of that repository's cache."""
    place = folder.resolve()
    snapshots = place.parent
    if snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--"):
        return (place, snapshots.parent)
    return (place,)


def _refuse_pickles(folder: Path, component: str) -> None:
    inside = folder / component
    if any(inside.glob("*.bin")) and not any(inside.glob("*.safetensors")):
        raise UnusableBaseError(
            f"the weights of its {component} are only a .bin, a pickle that can run code",
            "convert it where you trust it: load it with diffusers and save it again with"
            " `pipeline.save_pretrained(FOLDER, safe_serialization=True)`",
        )
