"""The HTTP interface: routes, sizes of bodies, content types. Knows neither Ray nor torch."""

import asyncio
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from darkroom_serving.errors import ApiError, install_handlers, too_large
from darkroom_serving.settings import Limits
from darkroom_serving.web.parsing import parse_classify_request, parse_images_request, parse_top_k
from darkroom_serving.web.wire import (
    ClassifyRequest,
    ClassifyResponse,
    ImagesRequest,
    ImagesResponse,
    ModelCard,
    ModelList,
)

MAX_PICTURE_BYTES: Final = 20 << 20
"""Largest body that is a picture's file."""

MAX_JSON_PICTURE_BYTES: Final = MAX_PICTURE_BYTES * 4 // 3 + 4096
"""Largest JSON body of a picture: base64 takes four bytes for three."""


class Backend(Protocol):
    """What answers the requests."""

    async def draw(self, request: ImagesRequest) -> ImagesResponse:
        """Draws images; raises ApiError."""
        ...

    async def classify(self, picture: bytes, top_k: int) -> ClassifyResponse:
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


def build_app(backend: Backend, limits: Limits) -> FastAPI:
    """The web application over a backend."""
    app = FastAPI(
        title="darkroom",
        description="Draws with personalised models, and classifies pictures.",
        redoc_url=None,
    )
    install_handlers(app)
    _add_images(app, backend, limits)
    _add_models(app, backend)
    _add_classify(app, backend)
    _add_health(app, backend)
    return app


def _add_images(app: FastAPI, backend: Backend, limits: Limits) -> None:
    @app.post("/v1/images/generations", openapi_extra=_body_of(ImagesRequest, "application/json"))
    async def generate(request: Request) -> ImagesResponse:
        """Draws images of a prompt."""
        body = await _read_body(request, limits.max_body_bytes)
        return await backend.draw(parse_images_request(body, limits))


def _add_models(app: FastAPI, backend: Backend) -> None:
    @app.get("/v1/models")
    async def list_models() -> ModelList:
        """The models that can draw: the base model, then the subjects."""
        return ModelList(data=await backend.list_models())

    @app.get("/v1/models/{model_id:path}")
    async def describe_model(model_id: str) -> ModelCard:
        """One model."""
        return await backend.describe_model(model_id)


def _add_classify(app: FastAPI, backend: Backend) -> None:
    @app.post("/v1/classify", openapi_extra=_CLASSIFY_BODY)
    async def classify(
        picture: Annotated[tuple[bytes, int], Depends(_read_picture)],
    ) -> ClassifyResponse:
        """Says what a picture shows. Send its file, or JSON with the file in base64."""
        return await backend.classify(*picture)


def _add_health(app: FastAPI, backend: Backend) -> None:
    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """Whether the process is alive."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether the base model and the classifier are loaded; the error says what is missing."""
        await backend.check_ready()
        return JSONResponse({"status": "ready"})


async def _read_picture(request: Request) -> tuple[bytes, int]:
    """The bytes of the picture's file and the number of labels; raises ApiError."""
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        body = await _read_body(request, MAX_JSON_PICTURE_BYTES)
        return await asyncio.to_thread(parse_classify_request, body)  # takes a while for 20 MiB
    if media_type == "application/octet-stream" or media_type.startswith("image/"):
        top_k = parse_top_k(request.query_params)
        return await _read_body(request, MAX_PICTURE_BYTES), top_k
    raise ApiError(
        415,
        f"content-type: {media_type[:80]} is not read; send the picture's file as image/png or"
        ' application/octet-stream, or application/json with {"image": BASE64}',
        None,
        "unsupported_media_type",
    )


async def _read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body; raises ApiError as soon as it turns out to be larger."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise too_large("the body of the request", most_bytes)
    return bytes(body)


def _body_of(model: type[ImagesRequest | ClassifyRequest], media_type: str) -> dict[str, Any]:
    """Describes a body that is read by hand, for the OpenAPI document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    for name, field in schema["properties"].items():
        if reference := field.pop("$ref", None):
            schema["properties"][name] = definitions[reference.rpartition("/")[2]] | field
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


_CLASSIFY_BODY: Final = _body_of(ClassifyRequest, "application/json")
_CLASSIFY_BODY["requestBody"]["content"] |= {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
}
