"""What a model is evaluated on: which model, its subject, the photos of that and pictures of others."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from darkroom_api.artifact import ModelManifest
from darkroom_api.job import Images, Subject
from darkroom_api.names import MANIFEST_FILE
from darkroom_api.pictures.buckets import Size
from darkroom_api.pictures.decoding import DEFAULT_SIDE
from darkroom_api.pictures.folder import PhotoFolderError
from darkroom_api.pictures.photos import PhotoSet, read_photos
from darkroom_api.uris import UnsupportedUriError, local_path
from darkroom_api.words import printable
from darkroom_serving.errors import ApiError
from darkroom_serving.evaluation.errors import EvaluationError
from darkroom_serving.models.catalogue import ModelCatalogue, ServedModel


def find_model(name: str, catalogue: ModelCatalogue) -> ServedModel:
    """The model in a folder, or of that id in the registry.

    Raises ApiError as `ModelCatalogue.find`, and EvaluationError for a folder that holds no model.
    """
    folder = Path(name)
    if (folder / MANIFEST_FILE).is_file():
        return catalogue.at(folder)
    try:
        return catalogue.find(name)
    except ApiError as error:
        if not folder.is_dir() or error.code != "model_not_found":
            raise
        raise EvaluationError(
            f"MODEL: {printable(name)} has no {MANIFEST_FILE}; name the folder of one version of a"
            " published model, or its id and --registry"
        ) from error


def subject_of(manifest: ModelManifest) -> Subject:
    """What the model of a manifest was made to show; raises EvaluationError where it does not say."""
    if manifest.training is None:
        raise EvaluationError(
            f"MODEL: {manifest.name} is a {manifest.kind} and has no subject; name a model that a job made"
        )
    try:
        return Subject.model_validate_json(json.dumps(manifest.training.spec.get("subject")))
    except ValidationError as error:
        raise EvaluationError(
            f"MODEL: the {MANIFEST_FILE} of {manifest.name} does not say what its subject is; train it again"
        ) from error


def photo_folder(given: Path | None, images: Images) -> Path:
    """The folder of the photos: the given one, or where the job had them; raises EvaluationError."""
    if given is not None:
        return given
    place = _place(images)
    if place is None or not place.is_dir():
        source = f"a ConfigMap ({images.config_map})" if images.uri is None else images.uri
        raise EvaluationError(
            f"--photos: the job had its photos from {source}, which is not a folder of this machine;"
            " give it with --photos"
        )
    return place


def _place(images: Images) -> Path | None:
    """Where the job's images are on this machine; None where only the job knew."""
    uri = images.uri
    if uri is None or (uri.startswith("file:") and not uri.startswith("file:/")):
        return None
    try:
        return local_path(uri, Path())
    except (UnsupportedUriError, LookupError, FileNotFoundError):
        return None


def square_photos(option: str, folder: Path) -> PhotoSet[Image.Image]:
    """The photos of a folder as a training sees them: copies left out, cut to the square in the middle.

    Raises EvaluationError that blames the option.
    """
    try:
        return read_photos(folder, DEFAULT_SIDE, _square)
    except PhotoFolderError as error:
        what = "; ".join(f"{one.message}; {one.fix}" for one in error.problems)
        raise EvaluationError(f"{option}: {what}") from error


def _square(image: Image.Image, _: Size) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def unused_photos(option: str, photos: PhotoSet[Image.Image]) -> Sequence[str]:
    """A line for each file that is not used."""
    return [
        f"{option}: {one.name} {one.reason}" for one in (*photos.quarantined, *photos.duplicates)
    ]
