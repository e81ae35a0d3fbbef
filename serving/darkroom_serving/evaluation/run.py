"""Evaluates a model that is prepared: draws, embeds, measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from darkroom_api.pictures.photos import PhotoSet
from darkroom_serving.engine.batching import BatchingEngine, Engine
from darkroom_serving.engine.requests import DrawRequest
from darkroom_serving.evaluation.encoders import PictureEncoder
from darkroom_serving.evaluation.measuring import (
    ClipEmbeddings,
    DinoEmbeddings,
    Measured,
    PromptDrawn,
    measure,
)
from darkroom_serving.evaluation.metrics import Embeddings
from darkroom_serving.evaluation.preparation import Prepared
from darkroom_serving.evaluation.prompts import without_identifier
from darkroom_serving.evaluation.results import (
    ClassPictures,
    Drawing,
    EvaluatedModel,
    Evaluation,
    PictureSet,
)
from darkroom_serving.models.loading import LoadedModel

PACKAGES: Final = ("darkroom", "torch", "diffusers", "transformers", "numpy")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What was found and what was drawn."""

    evaluation: Evaluation
    photos: tuple[Image.Image, ...]
    subject_pictures: tuple[tuple[Image.Image, ...], ...]
    """Of each prompt."""

    class_pictures: tuple[Image.Image, ...]


def evaluate(
    prepared: Prepared, drawn: Callable[[], None], engine: Engine | None = None
) -> Evaluated:
    """Draws and measures; calls `drawn` after each picture. Raises EvaluationError for useless embeddings."""
    painter = engine or BatchingEngine()

    def draw(requests: Sequence[DrawRequest]) -> tuple[Image.Image, ...]:
        pictures = []
        for request in requests:
            (pixels,) = painter.draw(prepared.loaded.model, [request], lambda: False)
            pictures.append(Image.fromarray(pixels))
            drawn()
        return tuple(pictures)

    subject = tuple(draw(requests) for requests in prepared.subject_pictures)
    of_class = draw(prepared.class_pictures)
    measured = _measure(prepared, subject, of_class)
    return Evaluated(
        evaluation=_evaluation(prepared, measured, _flagged(prepared.loaded, [*subject, of_class])),
        photos=_pictures(prepared.photos),
        subject_pictures=subject,
        class_pictures=of_class,
    )


def _pictures(photos: PhotoSet[Image.Image]) -> tuple[Image.Image, ...]:
    return tuple(photo.pixels for photo in photos.photos)


def _measure(
    prepared: Prepared,
    subject: Sequence[Sequence[Image.Image]],
    of_class: Sequence[Image.Image],
) -> Measured:
    dino, clip = prepared.judges.dino, prepared.judges.clip
    photos = _pictures(prepared.photos)
    texts = [without_identifier(prompt, prepared.subject) for prompt in prepared.prompts]
    class_seen = dino.embed(of_class)
    others = prepared.look_alikes
    return measure(
        [
            PromptDrawn(prompt, text, tuple(request.seed for request in requests))
            for prompt, text, requests in zip(
                prepared.prompts, texts, prepared.subject_pictures, strict=True
            )
        ],
        DinoEmbeddings(
            subject=_embed_all(dino, subject),
            class_pictures=class_seen,
            photos=dino.embed(photos),
            look_alikes=class_seen if others is None else dino.embed(_pictures(others)),
        ),
        ClipEmbeddings(
            subject=_embed_all(clip, subject),
            photos=clip.embed(photos),
            texts=clip.embed_texts(texts),
        ),
    )


def _embed_all(encoder: PictureEncoder, pictures: Sequence[Sequence[Image.Image]]) -> Embeddings:
    """Embeddings of N pictures of each of P prompts, (P, N, D)."""
    flat = encoder.embed([picture for row in pictures for picture in row])
    return flat.reshape(len(pictures), -1, flat.shape[-1])


def _flagged(loaded: LoadedModel, pictures: Sequence[Sequence[Image.Image]]) -> list[str]:
    """What a server would not have shown."""
    if loaded.safety is None:
        return []
    count = sum(loaded.safety.flags(np.asarray(one)) for row in pictures for one in row)
    if count == 0:
        return []
    return [
        f"the model's safety checker refuses {count} of the pictures; they are measured all the same"
    ]


def _evaluation(prepared: Prepared, measured: Measured, flagged: list[str]) -> Evaluation:
    served, request, first = prepared.served, prepared.request, prepared.class_pictures[0]
    gallery = prepared.look_alikes
    return Evaluation(
        model=EvaluatedModel(
            id=served.model_id,
            digest=served.digest,
            base_digest=None if served.base is None else served.base.digest,
            identifier=prepared.subject.identifier,
            class_noun=prepared.subject.class_noun,
        ),
        figures=measured.figures,
        photos_among_themselves=measured.photos,
        photos=_picture_set(prepared.photo_folder, prepared.photos),
        look_alikes=None
        if gallery is None or request.gallery is None
        else _picture_set(request.gallery, gallery),
        prompts=list(measured.prompts),
        class_pictures=ClassPictures(
            prompt=prepared.subject.class_prompt,
            seeds=[one.seed for one in prepared.class_pictures],
        ),
        encoders=prepared.judges.used,
        drawing=Drawing(
            seed=request.seed,
            images_per_prompt=request.images_per_prompt,
            steps=first.steps,
            guidance_scale=first.guidance_scale,
            sampler=first.sampler,
            width=first.width,
            height=first.height,
            device=str(prepared.loaded.model.device),
        ),
        warnings=[*prepared.warnings, *flagged],
        versions={name: version(name) for name in PACKAGES},
    )


def _picture_set(folder: Path, photos: PhotoSet[Image.Image]) -> PictureSet:
    return PictureSet(folder=str(folder), number=len(photos.photos), digest=photos.digest)
