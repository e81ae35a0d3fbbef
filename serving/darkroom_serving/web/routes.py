"""The HTTP interface: routes, sizes of bodies, content types. Knows neither Ray nor torch."""

from collections.abc import Collection
from typing import Protocol

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from darkroom_serving.errors import install_handlers
from darkroom_serving.settings import Limits
from darkroom_serving.web.automatic1111 import add_automatic1111
from darkroom_serving.web.classification import add_classify
from darkroom_serving.web.hugging_face import add_text_to_image
from darkroom_serving.web.images import add_images
from darkroom_serving.web.methods import EveryMethod
from darkroom_serving.web.openapi import describe_exactly, errors
from darkroom_serving.web.origins import guard_origins
from darkroom_serving.web.wire import (
    ClassifyResponse,
    ImagesRequest,
    ImagesResponse,
    ModelCard,
    ModelList,
    ScoreFunction,
)


class Backend(Protocol):
    """What answers the requests."""

    async def draw(self, request: ImagesRequest) -> ImagesResponse:
        """Draws images; raises ApiError."""
        ...

    async def classify(
        self, picture: bytes, top_k: int, function: ScoreFunction | None = None
    ) -> ClassifyResponse:
        """Classifies a picture's file; raises ApiError."""
        ...

    async def list_models(self) -> list[ModelCard]:
        """The models that can draw, the base model first."""
        ...

    async def describe_model(self, model_id: str) -> ModelCard:
        """One of them; raises ApiError when there is none of that id."""
        ...

    async def check_ready(self) -> None:
        """Raises ApiError while something is missing that requests need."""
        ...


def build_app(backend: Backend, limits: Limits, origins: Collection[str] = ()) -> FastAPI:
    """The web application over a backend; pages of `origins` may use it from a browser."""
    app = FastAPI(
        title="darkroom",
        description="Draws with personalised models, and classifies pictures.",
        redoc_url=None,
        responses=errors(500),
    )
    install_handlers(app)
    add_images(app, backend, limits)
    add_text_to_image(app, backend, limits)
    add_automatic1111(app, backend, limits)
    _add_models(app, backend)
    add_classify(app, backend)
    _add_health(app, backend)
    describe_exactly(app)
    app.add_middleware(EveryMethod, routes=app)
    guard_origins(app, origins)  # outermost: it answers preflights
    return app


def _add_models(app: FastAPI, backend: Backend) -> None:
    @app.get("/v1/models")
    async def list_models() -> ModelList:
        """The models that can draw: the base model, then the subjects."""
        return ModelList(data=await backend.list_models())

    @app.get("/v1/models/{model_id:path}", responses=errors(404))
    async def describe_model(model_id: str) -> ModelCard:
        """One model."""
        return await backend.describe_model(model_id)


def _add_health(app: FastAPI, backend: Backend) -> None:
    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Whether the process is alive."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", responses=errors(503))
    async def readyz() -> JSONResponse:
        """Whether the base model and the classifier are loaded; the error says what is missing."""
        await backend.check_ready()
        return JSONResponse({"status": "ready"})
