"""Which models there are, found anew at each look; and those in memory, loaded only when intact."""

import difflib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Generic, TypeVar

from darkroom_api.artifact import BaseReference, ModelManifest
from darkroom_api.integrity import IntegrityError, read_manifest, verify
from darkroom_api.names import DEFAULT_NAMESPACE, MANIFEST_FILE
from darkroom_api.registry import entries
from darkroom_serving.errors import SERVER_ERROR, ApiError
from darkroom_serving.models.bases import ADDITIONS, WHOLE, Base, find_base
from darkroom_serving.web.wire import ModelCard, shown

Loaded = TypeVar("Loaded")

MAX_LISTED: Final = 5
"""Models that an error lists."""


@dataclass(frozen=True)
class ServedModel:
    """One version of one model."""

    model_id: str
    folder: Path
    digest: str
    card: ModelCard

    goes_on: BaseReference | None = None
    """What an adapter or token embeddings were made on; None for a whole model."""

    base: Base | None = None
    """That base on this machine, once it is looked for."""


class ModelCatalogue:
    """The base model and the subjects of a registry, as they are on disk at each call."""

    def __init__(self, registry: Path, base: Path) -> None:
        """The registry need not exist yet."""
        self._registry = registry
        self._base = base

    def models(self) -> list[ServedModel]:
        """The base model, then the subjects by id; what has no readable manifest is left out."""
        bases = self._bases()
        taken = {model.model_id for model in bases}
        return bases + [model for model in self._subjects() if model.model_id not in taken]

    def base(self) -> ServedModel:
        """The base model; raises IntegrityError when its manifest can't be read."""
        manifest = read_manifest(self._base)
        return _served(manifest.name, self._base, manifest)

    def find(self, model_id: str | None) -> ServedModel:
        """The model of that id, with the default namespace or without it, or the base model for None.

        Raises ApiError when there is none, when its manifest can't be read, or when it goes on a base
        model that is not here.
        """
        if model_id is None:
            with refusing("the base model"):
                return self.base()
        bases, subjects = self._bases(), entries(self._registry)
        model_id = model_id.removeprefix(f"{DEFAULT_NAMESPACE}/")
        for base in bases:
            if base.model_id == model_id:
                return base
        for entry in subjects:
            if entry.model_id == model_id:
                with refusing(model_id):
                    return self._on_its_base(_described(model_id, entry.folder))
        known = [model.model_id for model in bases] + [entry.model_id for entry in subjects]
        raise _unknown(model_id, known)

    def at(self, folder: Path) -> ServedModel:
        """The model of a folder, which need not be in the registry; raises ApiError as `find`."""
        with refusing(str(folder)):
            manifest = read_manifest(folder)
            return self._on_its_base(_drawable(manifest.name, folder, manifest))

    def _on_its_base(self, model: ServedModel) -> ServedModel:
        if model.goes_on is None:
            return model
        found = find_base(model.model_id, model.goes_on, self._base, self._registry)
        return replace(model, base=found)

    def _bases(self) -> list[ServedModel]:
        try:
            return [self.base()]
        except IntegrityError:
            return []

    def _subjects(self) -> list[ServedModel]:
        subjects = []
        for entry in entries(self._registry):
            with suppress(IntegrityError):
                subjects.append(_described(entry.model_id, entry.folder))
        return subjects


def _unknown(model_id: str, known: list[str]) -> ApiError:
    """An error that lists the models, or the nearest where they are many."""
    if len(known) <= MAX_LISTED:
        there = f"there are {', '.join(known) or 'none'}"
    else:
        near = difflib.get_close_matches(model_id, known, MAX_LISTED, cutoff=0.5)
        guess = f", the nearest {', '.join(near)}" if near else ""
        there = f"there are {len(known)}{guess}: see GET /v1/models"
    message = f"model: {shown(model_id)} does not exist; {there}"
    return ApiError(404, message, "model", "model_not_found")


def _described(model_id: str, folder: Path) -> ServedModel:
    """A subject as its manifest describes it; raises IntegrityError."""
    manifest = read_manifest(folder)
    if manifest.digest != folder.name:
        raise IntegrityError(
            folder, f"{MANIFEST_FILE} is of another version than the folder's name"
        )
    return _drawable(model_id, folder, manifest)


def _drawable(model_id: str, folder: Path, manifest: ModelManifest) -> ServedModel:
    """A model of a kind that can draw; raises IntegrityError."""
    if manifest.kind not in (*WHOLE, *ADDITIONS):
        raise IntegrityError(folder, f"{MANIFEST_FILE} says {manifest.kind}, which can't draw")
    if manifest.kind in ADDITIONS and manifest.base is None:
        raise IntegrityError(folder, f"{MANIFEST_FILE} does not say what it goes on")
    return _served(model_id, folder, manifest)


def _served(model_id: str, folder: Path, manifest: ModelManifest) -> ServedModel:
    training = manifest.training
    card = ModelCard(
        id=model_id,
        created=_created(folder, manifest),
        owned_by=manifest.namespace,
        digest=manifest.digest,
        parent=manifest.base.digest if manifest.base else None,
        instance_prompt=training.instance_prompt if training else None,
        class_prompt=training.class_prompt if training else None,
    )
    goes_on = manifest.base if manifest.kind in ADDITIONS else None
    return ServedModel(model_id, folder, manifest.digest, card, goes_on)


def _created(folder: Path, manifest: ModelManifest) -> int:
    """Seconds since 1970; a model that doesn't say is as old as its manifest."""
    if manifest.training is None:
        return int((folder / MANIFEST_FILE).stat().st_mtime)
    try:
        return int(datetime.fromisoformat(manifest.training.created).timestamp())
    except ValueError as error:
        raise IntegrityError(folder, f"{MANIFEST_FILE} does not say when it was made") from error


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turns what is wrong with a model's files into an ApiError.

    It says which file, but not where that is on the server's disk.
    """
    try:
        yield
    except IntegrityError as error:
        raise ApiError(
            500,
            f"{name} is damaged: {error.why}; copy its folder again from where it came,"
            " or run its job again",
            "model",
            "model_damaged",
            SERVER_ERROR,
        ) from error


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turns anything that a library makes of intact but unusable files into an ApiError."""
    try:
        yield
    except Exception as error:
        raise ApiError(
            500,
            f"{name} can't be loaded ({type(error).__name__});"
            " publish a model in diffusers' layout, with safetensors",
            "model",
            "model_unusable",
            SERVER_ERROR,
        ) from error


class ModelStore(Generic[Loaded]):
    """Keeps the models that were used last in memory. Belongs to one thread at a time."""

    def __init__(self, load: Callable[[ServedModel], Loaded], max_models: int) -> None:
        """`load` reads a model whose folder, and that of its base, is verified; at most `max_models` are kept."""
        self._load = load
        self._max_models = max_models
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()

    def get(self, model: ServedModel) -> Loaded:
        """The model in memory, verified and loaded now if it isn't there.

        Raises ApiError when a file does not match its digest, or the files are no usable model.
        """
        if model.digest not in self._loaded:
            _check_intact(model)  # first: a damaged model takes nobody's place
            while len(self._loaded) >= self._max_models:
                self._loaded.popitem(last=False)  # before loading, so that memory holds no more
            with loading(model.model_id):
                self._loaded[model.digest] = self._load(model)
        self._loaded.move_to_end(model.digest)
        return self._loaded[model.digest]

    def __contains__(self, model: ServedModel) -> bool:
        return model.digest in self._loaded


def _check_intact(model: ServedModel) -> None:
    with refusing(model.model_id):
        _verify(model.folder, model.digest)
    if model.base is not None:
        with refusing(f"the base model of {model.model_id}"):
            _verify(model.base.folder, model.base.digest)


def _verify(folder: Path, digest: str) -> None:
    if verify(folder).digest != digest:
        raise IntegrityError(folder, f"{MANIFEST_FILE} was replaced meanwhile")
