"""From embeddings to figures. Pure: embeddings in, figures and scores of prompts out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from darkroom_serving.evaluation.metrics import (
    Embeddings,
    Scores,
    bootstrap_interval,
    diversity,
    gallery_rank,
    likeness,
    mutual_likeness,
    prompt_fidelity,
)
from darkroom_serving.evaluation.results import Figure, Figures, PhotoFigures, PromptScores


@dataclass(frozen=True, kw_only=True)
class DinoEmbeddings:
    """What DINO sees."""

    subject: Embeddings
    """N pictures of each of P prompts, (P, N, D)."""

    class_pictures: Embeddings
    """(K, D)."""

    photos: Embeddings
    """(M, D)."""

    look_alikes: Embeddings
    """(L, D)."""


@dataclass(frozen=True, kw_only=True)
class ClipEmbeddings:
    """What CLIP sees."""

    subject: Embeddings
    """(P, N, D)."""

    photos: Embeddings
    """(M, D)."""

    texts: Embeddings
    """Of the prompts without the identifier, (P, D)."""


@dataclass(frozen=True)
class Measured:
    """All that follows from the embeddings."""

    figures: Figures
    photos: PhotoFigures
    prompts: tuple[PromptScores, ...]


@dataclass(frozen=True)
class PromptDrawn:
    """One prompt and the seeds of its pictures."""

    prompt: str
    text: str
    seeds: tuple[int, ...]


def measure(prompts: Sequence[PromptDrawn], dino: DinoEmbeddings, clip: ClipEmbeddings) -> Measured:
    """The figures of P prompts; the means over pictures are means over prompts, which have N each."""
    dino_scores = likeness(dino.subject, dino.photos).mean(axis=1)
    clip_i = likeness(clip.subject, clip.photos).mean(axis=1)
    clip_t = prompt_fidelity(clip.subject, clip.texts).mean(axis=1)
    distances = _distances(dino.subject)
    count, each, width = dino.subject.shape
    ranks = gallery_rank(dino.subject.reshape(-1, width), dino.photos, dino.look_alikes)
    figures = Figures(
        dino=_figure(dino_scores),
        clip_i=_figure(clip_i),
        clip_t=_figure(clip_t),
        pres=_figure(likeness(dino.class_pictures, dino.photos)),
        div_dino=None if distances is None else _figure(distances),
        gallery_map=_figure(ranks.average_precision.reshape(count, each).mean(axis=1)),
        gallery_rank_1=_figure(ranks.first.reshape(count, each).mean(axis=1)),
    )
    photos = PhotoFigures(dino=mutual_likeness(dino.photos), clip_i=mutual_likeness(clip.photos))
    scores = tuple(
        PromptScores(
            prompt=drawn.prompt,
            text=drawn.text,
            seeds=list(drawn.seeds),
            dino=float(dino_scores[number]),
            clip_i=float(clip_i[number]),
            clip_t=float(clip_t[number]),
            div_dino=None if distances is None else float(distances[number]),
        )
        for number, drawn in enumerate(prompts)
    )
    return Measured(figures, photos, scores)


def _distances(pictures: Embeddings) -> Scores | None:
    """DIV of each prompt, (P,); None where each has one picture."""
    if pictures.shape[1] < 2:
        return None
    return np.array([diversity(own) for own in pictures])


def _figure(values: Scores) -> Figure:
    low, high = bootstrap_interval(values) or (None, None)
    return Figure(value=float(values.mean()), low=low, high=high)
