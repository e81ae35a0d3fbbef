"""The deployment that classifies pictures: batched, labels from the model's own configuration."""

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ray import serve

from darkroom_api.integrity import verify
from darkroom_api.pictures.bounds import UnfitPictureError
from darkroom_api.pictures.decoding import decode_picture
from darkroom_serving.errors import ApiError
from darkroom_serving.metrics import ClassificationMetrics
from darkroom_serving.models.catalogue import loading, refusing
from darkroom_serving.replica_port import stay_on_loopback
from darkroom_serving.web.wire import ClassifyResponse, ScoreFunction

if TYPE_CHECKING:
    from torch import Tensor

    from darkroom_serving.classification.model import ImageClassifier

MAX_BATCH_SIZE: Final = 16
"""Pictures that go through the model together."""

BATCH_WAIT_S: Final = 0.005
"""How long a picture waits for company."""

logger = logging.getLogger(__name__)


class Classifier:
    """Classifies pictures; runs in a replica of its own."""

    def __init__(self, folder: Path) -> None:
        """A damaged model does not keep the replica from starting: each request is told of it."""
        stay_on_loopback()
        self._metrics = ClassificationMetrics()
        self._name = "the classifier"
        self._model: ImageClassifier | ApiError
        try:
            self._model = self._load(folder)
        except ApiError as error:
            logger.exception("no classifier")
            self._model = error

    def check_ready(self) -> None:
        """Raises ApiError when the model can't be used."""
        self._usable()

    async def classify(
        self, picture: bytes, top_k: int, function: ScoreFunction | None = None
    ) -> ClassifyResponse:
        """The likeliest labels of a picture's file; raises ApiError."""
        outcome = "error"
        try:
            pixels = await asyncio.to_thread(self._prepare, picture)
            logits: Tensor = await self._predict(pixels)
            labels = self._usable().rank(logits, function)
            outcome = "ok"
        except ApiError as error:
            outcome = error.code or outcome
            raise
        finally:
            self._metrics.picture(outcome)
        return ClassifyResponse(model=self._name, predictions=labels[:top_k])

    def _prepare(self, picture: bytes) -> "Tensor":
        model = self._usable()
        try:
            return model.prepare(decode_picture(picture).image)
        except UnfitPictureError as error:
            raise ApiError(400, f"image: {error}", "image", "invalid_image") from error

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=BATCH_WAIT_S)  # type: ignore[untyped-decorator]
    async def _predict(self, batch: list[Any]) -> list["Tensor"]:
        self._metrics.batch(len(batch))
        return list(await asyncio.to_thread(self._usable().predict, batch))

    def _usable(self) -> "ImageClassifier":
        if isinstance(self._model, ApiError):
            raise self._model
        return self._model

    def _load(self, folder: Path) -> "ImageClassifier":
        with refusing(self._name):
            self._name = verify(folder).name
        with loading(self._name):
            from darkroom_serving.classification.model import ImageClassifier
            from darkroom_serving.threads import use_all_cpus

            use_all_cpus()
            return ImageClassifier(folder)
