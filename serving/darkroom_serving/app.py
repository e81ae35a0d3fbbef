"""The Ray Serve application: one deployment takes the requests and draws, another classifies."""

import asyncio
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from ray import serve

from darkroom_serving.classification.deployment import MAX_BATCH_SIZE, Classifier
from darkroom_serving.errors import not_ready
from darkroom_serving.models.catalogue import ModelCatalogue
from darkroom_serving.replica_port import stay_on_loopback
from darkroom_serving.settings import ServingSettings
from darkroom_serving.web.routes import build_app
from darkroom_serving.web.wire import (
    ClassifyResponse,
    ImagesRequest,
    ImagesResponse,
    ModelCard,
    ScoreFunction,
)

if TYPE_CHECKING:
    from darkroom_serving.drawing.studio import Studio

APP_NAME: Final = "darkroom"

REPLICA_CPUS: Final = 0.1
"""What a replica asks of Ray: little, since torch shares the machine's CPUs by its own threads."""

PROBE_SECONDS: Final = 2.0
"""Longest wait for the classifier's word that it is ready."""


class Darkroom:
    """Takes the requests and draws; a `routes.Backend`."""

    def __init__(self, settings: ServingSettings, base: Path, classifier: Any) -> None:
        """Starts to load the base model, in a thread: until then `/healthz` answers already."""
        stay_on_loopback()
        self._settings = settings
        self._catalogue = ModelCatalogue(settings.registry, base)
        self._classifier = classifier
        self._studio: Future[Studio] = Future()
        Thread(target=self._open_studio, daemon=True, name="start").start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Ray Serve asks for after the constructor."""
        return build_app(self, self._settings.limits, self._settings.allowed_origins)

    async def draw(self, request: ImagesRequest) -> ImagesResponse:
        """Draws images; raises ApiError."""
        return await self._opened().draw(request)

    async def classify(
        self, picture: bytes, top_k: int, function: ScoreFunction | None = None
    ) -> ClassifyResponse:
        """Classifies a picture's file; raises ApiError."""
        answer: ClassifyResponse = await self._classifier.classify.remote(picture, top_k, function)
        return answer

    async def list_models(self) -> list[ModelCard]:
        """The models that can draw, the base model first."""
        return [model.card for model in await asyncio.to_thread(self._catalogue.models)]

    async def describe_model(self, model_id: str) -> ModelCard:
        """One of them; raises ApiError when there is none of that id."""
        return (await asyncio.to_thread(self._catalogue.find, model_id)).card

    async def check_ready(self) -> None:
        """Raises ApiError until base model and classifier are loaded."""
        self._opened()
        try:
            await asyncio.wait_for(self._classifier.check_ready.remote(), PROBE_SECONDS)
        except TimeoutError:
            raise not_ready("the classifier") from None

    def _opened(self) -> "Studio":
        if not self._studio.done():
            raise not_ready("the base model")
        return self._studio.result()

    def _open_studio(self) -> None:
        try:
            from darkroom_serving.drawing.studio import (
                Studio,  # imports torch and diffusers: seconds
            )

            studio = Studio(self._catalogue, self._settings.limits, self._settings.max_models)
            studio.warm_up()
            self._studio.set_result(studio)
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asks for the studio
            self._studio.set_exception(error)


def build_application(settings: ServingSettings, base: Path, classifier: Path) -> Any:
    """The application for `serve.run`; the folders are those of the base model and the classifier.

    One replica of each: on one machine a second would only share the same CPUs or GPU.
    """
    waiting = settings.limits.max_waiting
    common = {"ray_actor_options": {"num_cpus": REPLICA_CPUS}}
    classification = serve.deployment(
        Classifier,
        name="classifier",
        max_ongoing_requests=4 * MAX_BATCH_SIZE,
        **common,
    )
    generation = serve.deployment(
        serve.ingress()(Darkroom),
        name="generation",
        # More than may wait, so that the refusal is ours, in OpenAI's shape.
        max_ongoing_requests=2 * waiting + 4 * MAX_BATCH_SIZE,
        **common,
    )
    return generation.bind(settings, base, classification.bind(classifier))
