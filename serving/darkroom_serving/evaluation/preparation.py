"""What an evaluation needs, checked and in memory before anything is drawn: model, photos, prompts, encoders."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from PIL import Image

from darkroom_api.builtin import builtin_folder
from darkroom_api.integrity import read_manifest
from darkroom_api.job import Subject
from darkroom_api.pictures.photos import PhotoSet
from darkroom_api.words import counted
from darkroom_serving.drawing.studio import resolve
from darkroom_serving.engine.requests import DrawRequest
from darkroom_serving.evaluation.encoders import (
    ClipEncoder,
    DinoEncoder,
    EncoderFolder,
    PictureEncoder,
    TextEncoder,
    clip_folder,
    dino_folder,
)
from darkroom_serving.evaluation.prompts import dreambench_prompts, read_prompts
from darkroom_serving.evaluation.results import Encoders, EncoderUsed
from darkroom_serving.evaluation.subject import (
    find_model,
    photo_folder,
    square_photos,
    subject_of,
    unused_photos,
)
from darkroom_serving.models.additions import load_served
from darkroom_serving.models.catalogue import ModelCatalogue, ModelStore, ServedModel
from darkroom_serving.models.loading import LoadedModel, choose_device
from darkroom_serving.threads import use_all_cpus
from darkroom_serving.web.wire import MAX_SEED, ImagesRequest

CLASS_SHARE: Final = 4
"""So many times as many pictures of the class as of one prompt."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What a user asks for."""

    model: str
    """A folder, or the id of a model of the registry."""

    registry: Path
    base: Path | None
    """Where adapters look for their base first; the miniature when None."""

    dino: Path
    clip: Path
    photos: Path | None
    """Folder of the subject's photos; where the job had them when None."""

    gallery: Path | None
    """Folder of look-alikes; the pictures of the class when None."""

    prompts: Path | None
    """File of prompts; DreamBench's when None."""

    images_per_prompt: int
    steps: int
    guidance_scale: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The encoders, and where they are from."""

    dino: PictureEncoder
    clip: TextEncoder
    used: Encoders


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that is needed, checked and in memory."""

    request: EvaluationRequest
    served: ServedModel
    subject: Subject
    prompts: tuple[str, ...]
    photos: PhotoSet[Image.Image]
    photo_folder: Path
    look_alikes: PhotoSet[Image.Image] | None
    judges: Judges
    loaded: LoadedModel

    @cached_property
    def subject_pictures(self) -> tuple[tuple[DrawRequest, ...], ...]:
        """The pictures of each prompt."""
        return tuple(self._draw(prompt, self.request.images_per_prompt) for prompt in self.prompts)

    @cached_property
    def class_pictures(self) -> tuple[DrawRequest, ...]:
        """The pictures of the class."""
        count = CLASS_SHARE * self.request.images_per_prompt
        return self._draw(self.subject.class_prompt, count)

    @property
    def number(self) -> int:
        """Pictures to draw."""
        return len(self.prompts) * self.request.images_per_prompt + len(self.class_pictures)

    @property
    def warnings(self) -> list[str]:
        """What the user should know of photos and prompts."""
        found = [*unused_photos("--photos", self.photos)]
        if self.look_alikes is not None:
            found += unused_photos("--gallery", self.look_alikes)
        reader = self.loaded.model.conditioning
        cut = [one for one in self.prompts if reader.count_tokens(one) > reader.max_tokens]
        if cut:
            found.append(
                f"{len(cut)} of {counted(len(self.prompts), 'prompt')} have more than the {reader.max_tokens}"
                f' tokens that the model reads, and are cut off: "{cut[0]}" is the first'
            )
        return found

    def _draw(self, prompt: str, count: int) -> tuple[DrawRequest, ...]:
        """As the server resolves a request, each with a seed of its own."""
        asked = ImagesRequest(
            prompt=prompt,
            num_inference_steps=self.request.steps,
            guidance_scale=self.request.guidance_scale,
        )
        return tuple(
            resolve(
                asked.model_copy(update={"seed": picture_seed(self.request.seed, prompt, number)}),
                self.loaded.model,
            )[0]
            for number in range(count)
        )


def picture_seed(seed: int, prompt: str, number: int) -> int:
    """The seed of a prompt's picture: it depends on nothing else, so any order draws the same pictures."""
    digest = hashlib.sha256(f"{seed}\n{number}\n{prompt}".encode()).digest()
    return int.from_bytes(digest[:8]) & MAX_SEED


def prepare(request: EvaluationRequest) -> Prepared:
    """Checks what was asked for, what is quick first, and loads model and encoders.

    Raises EvaluationError, or ApiError for a model that can't be drawn.
    """
    base = builtin_folder("miniature") if request.base is None else request.base
    served = find_model(request.model, ModelCatalogue(request.registry, base))
    subject = subject_of(read_manifest(served.folder))
    prompts = _prompts(request, subject)
    folders = dino_folder(request.dino), clip_folder(request.clip)
    where = photo_folder(request.photos, subject.images)
    photos = square_photos("--photos", where)
    gallery = request.gallery
    look_alikes = None if gallery is None else square_photos("--gallery", gallery)
    use_all_cpus()
    device = choose_device()
    judges = Judges(
        dino=DinoEncoder(folders[0], device),
        clip=ClipEncoder(folders[1], device),
        used=Encoders(dino=_used(folders[0]), clip=_used(folders[1])),
    )
    store = ModelStore(lambda model: load_served(model, device), max_models=1)
    return Prepared(
        request=request,
        served=served,
        subject=subject,
        prompts=prompts,
        photos=photos,
        photo_folder=where,
        look_alikes=look_alikes,
        judges=judges,
        loaded=store.get(served),
    )


def _prompts(request: EvaluationRequest, subject: Subject) -> tuple[str, ...]:
    if request.prompts is None:
        return tuple(dreambench_prompts(subject))
    return tuple(read_prompts(request.prompts, subject))


def _used(folder: EncoderFolder) -> EncoderUsed:
    return EncoderUsed(folder=str(folder.path), class_name=folder.class_name, digest=folder.digest)
