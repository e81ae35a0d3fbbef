"""Finds the base model of a job on this machine and checks it before anything is loaded.

Imports no torch: configurations are JSON, and safetensors say what they hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from darkroom_api.artifact import (
    LEARNED_EMBEDDINGS,
    LORA_WEIGHTS,
    ArtifactKind,
    FileEntry,
    content_digest,
)
from darkroom_api.integrity import IntegrityError, hash_file, verify
from darkroom_api.names import MANIFEST_FILE
from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.families.layout import FamilyLayout, Sizes, known_families
from darkroom_trainer.inputs.base.hub import download
from darkroom_trainer.inputs.base.keys import TEXT_PREFIX, WORD_EMBEDDINGS, class_name_of, in_words
from darkroom_trainer.inputs.base.layout import (
    MODEL_FILES,
    find_components,
    find_family,
    model_files,
    read_sizes,
    weight_files,
)
from darkroom_trainer.inputs.base.license import License, read_license
from darkroom_trainer.inputs.base.tensors import (
    QUANTISED,
    TensorInfo,
    count_elements,
    hash_and_scan,
    not_finite,
    read_header,
)
from darkroom_trainer.inputs.sources import find_local

SEALED_KINDS = (ArtifactKind.BASE_MODEL, ArtifactKind.SUBJECT_MODEL)
"""Kinds of artifacts whose tensors were compared with their classes before they were sealed."""


@dataclass(frozen=True, kw_only=True)
class BaseModel(Sizes):
    """A base model on this machine whose parts are known to be usable."""

    uri: str
    folder: Path

    digest: str
    """Digest of its content: its manifest's, or one over its components' files."""

    sealed: bool
    """Whether it has a manifest, which is only written for what fits its classes."""

    pipeline: str
    """The class of its pipeline, which is that of its family."""

    classes: Mapping[str, str]
    """The class of each component that belongs to it, by name, sorted."""

    num_parameters: Mapping[str, int]
    """Parameters of the components whose weights are read, such as `unet`."""

    shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Shapes of the tensors of those, by component and name in the file."""

    largest: Mapping[str, float]
    """Largest magnitude of a weight of those."""

    copied_bytes: int
    """Size of what a published model has of it byte by byte: all but the weights that are trained or cast."""

    license: License

    @property
    def family(self) -> FamilyLayout:
        """What is known of its family."""
        return known_families()[self.pipeline]

    @property
    def components(self) -> tuple[str, ...]:
        """Subfolders that belong to it; the optional ones only where present."""
        return tuple(self.classes)

    @property
    def embedding_rows(self) -> int:
        """Tokens that each of its CLIP text encoders has an embedding for."""
        return min(
            shape[0]
            for encoder in self.family.encoders
            for name, shape in self.shapes[encoder].items()
            if class_name_of(encoder, name).removeprefix(TEXT_PREFIX) == WORD_EMBEDDINGS
        )

    @property
    def native_resolution(self) -> int:
        """Side in pixels that the model was trained at."""
        return self.sample_size * self.vae_scale_factor


def find_base(uri: str, job_folder: Path, downloads: Path) -> BaseModel:
    """The base model of a URI, downloaded below `downloads` if it is on the Hugging Face Hub.

    Raises TrainerError when it can't be had, isn't a complete model of a known family, was altered, has
    numbers that are not finite, or has its weights only as pickles.
    """
    if uri.startswith("hf://"):
        return inspect_base(uri, download(uri, downloads))
    return inspect_base(uri, find_local("spec.baseModel.uri", uri, job_folder))


def inspect_base(uri: str, folder: Path) -> BaseModel:
    """Checks a folder in diffusers' layout and says what it is; errors as `find_base`."""
    try:
        return _inspect(uri, folder)
    except UnusableBaseError as error:
        raise error.of(uri) from error
    except IntegrityError as error:
        raise UnusableBaseError(str(error), "restore the files from where they came").of(
            uri
        ) from error


def _inspect(uri: str, folder: Path) -> BaseModel:
    _refuse_no_folder(folder)
    _refuse_addition(folder)
    classes = find_components(folder)
    family, sizes = find_family(folder), read_sizes(folder)
    tensors = {component: _read_headers(folder, component) for component in family.weights}
    scan = _Scan(folder, family)
    digest, sealed, named = _digest(folder, tuple(classes), scan)
    return BaseModel(
        **vars(sizes),
        uri=uri,
        folder=folder,
        digest=digest,
        sealed=sealed,
        pipeline=family.pipeline,
        classes=classes,
        num_parameters={name: count_elements(found.values()) for name, found in tensors.items()},
        shapes={
            name: {tensor: info.shape for tensor, info in found.items()}
            for name, found in tensors.items()
        },
        largest=scan.largest(),
        copied_bytes=_copied_bytes(folder, tuple(classes), family),
        license=read_license(folder) if named is None else License.of(named),
    )


def _refuse_no_folder(folder: Path) -> None:
    if not folder.exists():
        raise UnusableBaseError(
            f"there is no folder {folder}", "check the path; file: is relative to the job file"
        )
    if not folder.is_dir():
        raise UnusableBaseError(
            f"{folder} is a single file",
            f"make a folder of it with: darkroom import {folder} NAME",
        )


def _refuse_addition(folder: Path) -> None:
    if any((folder / name).exists() for name in (LORA_WEIGHTS, LEARNED_EMBEDDINGS)):
        raise UnusableBaseError(
            f"{folder} holds what goes on a base model, and none itself",
            "name the base model that its README.md names",
        )


def _read_headers(folder: Path, component: str) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    try:
        for file in weight_files(folder, component).files:
            tensors |= read_header(file)
    except (OSError, ValueError) as error:
        raise UnusableBaseError(f"the weights of its {component} are damaged: {error}") from error
    quantised = [name for name, tensor in tensors.items() if tensor.dtype.startswith(QUANTISED)]
    if quantised:
        raise UnusableBaseError(
            f"the weights of its {component} are quantised ({tensors[quantised[0]].dtype}:"
            f" {in_words(quantised)})",
            "use a model with weights of 16 or 32 bits",
        )
    return tensors


class _Scan:
    """Looks at the weights while their files are hashed: they are read once."""

    def __init__(self, folder: Path, family: FamilyLayout) -> None:
        self._component = {
            file: component
            for component in family.weights
            for file in weight_files(folder, component).files
        }
        self._magnitudes: dict[str, dict[str, float]] = {
            component: {} for component in family.weights
        }

    def read(self, path: Path) -> FileEntry:
        """The digest of a file; raises UnusableBaseError for weights that are not finite."""
        component = self._component.get(path)
        if component is None:
            return hash_file(path)
        entry, magnitudes = hash_and_scan(path)
        if names := not_finite(magnitudes):
            raise UnusableBaseError(
                f"the weights of its {component} are not finite (NaN or infinity in {in_words(names)})",
                "use weights that were not damaged by a training or by a conversion to float16",
            )
        self._magnitudes[component] |= magnitudes
        return entry

    def largest(self) -> dict[str, float]:
        """The largest magnitude of each component."""
        return {name: max(found.values(), default=0.0) for name, found in self._magnitudes.items()}


def _copied_bytes(folder: Path, components: tuple[str, ...], family: FamilyLayout) -> int:
    return sum(
        path.stat().st_size
        for component in components
        for path in (folder / component).iterdir()
        if path.suffix in MODEL_FILES
        and not (component in family.weights and path.suffix == ".safetensors")
    )


def _digest(folder: Path, components: tuple[str, ...], scan: _Scan) -> tuple[str, bool, str | None]:
    """Its digest, whether it is sealed, and the licence that its manifest names."""
    if (folder / MANIFEST_FILE).exists():
        manifest = verify(folder, scan.read)
        return manifest.digest, manifest.kind in SEALED_KINDS, manifest.license
    entries = {
        path.relative_to(folder).as_posix(): scan.read(path)
        for path in model_files(folder, components)
    }
    return content_digest(entries), False, None
