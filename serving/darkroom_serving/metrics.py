"""Every metric of a server, declared once. Ray exports them with `ray_` before the name.

No label holds what a user wrote: models have the ids of the registry, and unknown ones none.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ray.serve import metrics as serve_metrics

from darkroom_api.names import METRIC_PREFIX
from darkroom_serving.errors import ApiError

SECONDS_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""From one image of the miniature to ten of a large model on a CPU."""

BATCH_BUCKETS: Final = (1, 2, 4, 8, 16)
"""Pictures that are classified together."""


class GenerationMetrics:
    """Metrics of the replica that draws."""

    def __init__(self) -> None:
        self._images = serve_metrics.Counter(
            f"{METRIC_PREFIX}generation_images_total",
            description="Images that were asked for, by what became of them",
            tag_keys=("model", "sampler", "outcome"),
        )
        self._seconds = serve_metrics.Histogram(
            f"{METRIC_PREFIX}generation_seconds",
            description="Time from a request's arrival to its answer",
            boundaries=list(SECONDS_BUCKETS),
            tag_keys=("model", "sampler", "outcome"),
        )
        self._loads = serve_metrics.Counter(
            f"{METRIC_PREFIX}model_loads_total",
            description="Models that were verified and loaded, by what became of it",
            tag_keys=("model", "outcome"),
        )
        self._load_seconds = serve_metrics.Histogram(
            f"{METRIC_PREFIX}model_load_seconds",
            description="Time to verify and load a model",
            boundaries=list(SECONDS_BUCKETS),
            tag_keys=("model", "outcome"),
        )

    def images(self, count: int, seconds: float, model: str, sampler: str, outcome: str) -> None:
        """Counts a request for `count` images."""
        tags = {"model": model, "sampler": sampler, "outcome": outcome}
        self._images.inc(count, tags)
        self._seconds.observe(seconds, tags)

    @contextmanager
    def load(self, model: str) -> Iterator[None]:
        """Times and counts the loading of a model."""
        started_s = time.monotonic()
        outcome = "error"
        try:
            yield
            outcome = "ok"
        except ApiError as error:
            outcome = error.code or outcome
            raise
        finally:
            tags = {"model": model, "outcome": outcome}
            self._loads.inc(1, tags)
            self._load_seconds.observe(time.monotonic() - started_s, tags)


class ClassificationMetrics:
    """Metrics of the replica that classifies."""

    def __init__(self) -> None:
        self._pictures = serve_metrics.Counter(
            f"{METRIC_PREFIX}classifications_total",
            description="Pictures that were to be classified, by what became of them",
            tag_keys=("outcome",),
        )
        self._batch = serve_metrics.Histogram(
            f"{METRIC_PREFIX}classification_batch_size",
            description="Pictures that were classified together",
            boundaries=list(BATCH_BUCKETS),
        )

    def picture(self, outcome: str) -> None:
        """Counts a picture."""
        self._pictures.inc(1, {"outcome": outcome})

    def batch(self, size: int) -> None:
        """Notes the size of a batch."""
        self._batch.observe(size)
