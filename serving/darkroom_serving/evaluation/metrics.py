"""The metrics of an evaluation, as functions of embeddings. Pure numpy; nothing here knows a model or a file.

DINO, CLIP-I, CLIP-T, PRES and DIV are those of DreamBooth (arXiv 2208.12242, sections 4.1 and 4.3).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.floating[Any]]
"""Vectors along the last axis, of any length but zero."""

Scores = NDArray[np.float64]

CONFIDENCE: Final = 0.95
"""Share of the resamples that an interval holds."""

RESAMPLES: Final = 2000
"""Resamples of an interval: its ends then vary by about a hundredth of its width."""

RESAMPLING_SEED: Final = 0

DECIMALS: Final = 9
"""Cosines that differ by less are equally alike: one vector twice has cosines that differ by rounding."""


def cosines(first: Embeddings, second: Embeddings) -> Scores:
    """Cosine of each of `first`, (..., N, D), with each of `second`, (..., M, D): (..., N, M)."""
    found: Scores = _unit(first) @ np.swapaxes(_unit(second), -1, -2)
    return found


def likeness(pictures: Embeddings, photos: Embeddings) -> Scores:
    """Mean cosine of each picture, (..., N, D), with all photos, (M, D): (..., N).

    Its mean is the mean pairwise cosine of the paper: DINO or CLIP-I for pictures of the subject, PRES
    for pictures of its class.
    """
    found: Scores = cosines(pictures, photos).mean(axis=-1)
    return found


def mutual_likeness(photos: Embeddings) -> float:
    """Mean cosine of N >= 2 photos, (N, D), with each other: what the paper's row of real images shows."""
    return 1 - diversity(photos)


def prompt_fidelity(pictures: Embeddings, texts: Embeddings) -> Scores:
    """CLIP-T: cosine of the N pictures of each prompt, (P, N, D), with its text, (P, D): (P, N)."""
    found: Scores = cosines(pictures, texts[:, None, :])[..., 0]
    return found


def diversity(pictures: Embeddings) -> float:
    """DIV: mean cosine distance of N >= 2 pictures of one prompt, (N, D), from each other, within [0, 2].

    The paper takes LPIPS for the distance, whose weights are one more network; this is 1 - cosine.
    """
    rows, columns = np.triu_indices(len(pictures), k=1)
    return float(1 - cosines(pictures, pictures)[rows, columns].mean())


@dataclass(frozen=True)
class Ranks:
    """How well each of N pictures finds the photos in a gallery."""

    average_precision: Scores
    """Of each picture, (N,), within (0, 1]; their mean is the mAP."""

    first: Scores
    """1 where the best match is a photo, 0 elsewhere, (N,); their mean is rank 1."""


def gallery_rank(pictures: Embeddings, photos: Embeddings, look_alikes: Embeddings) -> Ranks:
    """Retrieval of the M photos, (M, D), among K others of their class, (K, D), by N pictures, (N, D).

    Average precision as in information retrieval (Manning et al. 2008, section 8.4). What is equally
    alike counts against the photos, so that an encoder to which all is one finds nothing.
    """
    gallery = np.concatenate([photos, look_alikes])
    is_photo = np.arange(len(gallery)) < len(photos)
    scores = np.round(cosines(pictures, gallery), DECIMALS)
    order = np.lexsort((np.broadcast_to(is_photo, scores.shape), -scores), axis=-1)
    hits = is_photo[order]
    precision = np.cumsum(hits, axis=-1) / np.arange(1, len(gallery) + 1)
    average = (precision * hits).sum(axis=-1) / len(photos)
    return Ranks(average, hits[:, 0].astype(np.float64))


def bootstrap_interval(values: Scores) -> tuple[float, float] | None:
    """The 95 % percentile interval of the mean of N values, (N,); the same at each call.

    Values are drawn with replacement (Efron and Tibshirani 1993, section 13.3). None for fewer than two.
    """
    if len(values) < 2:
        return None
    generator = np.random.default_rng(RESAMPLING_SEED)
    drawn = generator.integers(len(values), size=(RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def _unit(vectors: Embeddings) -> Scores:
    values = vectors.astype(np.float64)
    found: Scores = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return found
