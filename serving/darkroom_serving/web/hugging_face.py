"""POST /models/ID: text to image in the shape of Hugging Face's Inference API."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from darkroom_serving.errors import LOADING, RETRY_SECONDS, ApiError, bad_request, headers_of
from darkroom_serving.settings import Limits
from darkroom_serving.web.bodies import body_of, read_body
from darkroom_serving.web.images import Drawing
from darkroom_serving.web.images_body import parse_images_fields, warnings_of
from darkroom_serving.web.openapi import errors
from darkroom_serving.web.parsing import parse_body
from darkroom_serving.web.wire import ImagesRequest, ImagesResponse

WARNINGS_HEADER: Final = "x-darkroom-warnings"
"""Header of an answer that is a picture and has no other place for them: a JSON list, in ASCII."""

SEED_HEADER: Final = "x-darkroom-seed"
"""Header with the seed that drew the picture."""

_FORMATS: Final = ("png", "jpeg", "webp")

_ELSEWHERE: Final = {
    "prompt": "write it as inputs",
    "model": "write it in the path",
    "response_format": "leave it out: the answer is the picture's file",
}
"""Fields of our own route that have another place in this one."""


class TextToImage(BaseModel):
    """Body of `POST /models/ID`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    inputs: Annotated[str, Field(min_length=1)]
    """What the picture shows."""

    parameters: dict[str, Any] = {}
    """Fields of `POST /v1/images/generations`: guidance_scale, height, width, negative_prompt, scheduler, seed, …"""

    options: Any = None
    """Hugging Face's; not used."""


class InferenceError(BaseModel):
    """An error in Hugging Face's shape."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    error: str
    """What is wrong, and what to do about it."""

    estimated_time: float | None = None
    """Seconds until a model that is being loaded may be there."""


_PICTURE: Final = {
    f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in _FORMATS
}
_STATUSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The picture's file.", "content": _PICTURE},
    **errors(400, 404, 413, 415, 429, 503, model=InferenceError),
    **errors(403, 500),
}


def add_text_to_image(app: FastAPI, backend: Drawing, limits: Limits) -> None:
    """Adds the route to an app."""

    @app.post(
        "/models/{model_id:path}",
        response_class=Response,
        responses=_STATUSES,
        openapi_extra=body_of(TextToImage, "application/json"),
    )
    async def text_to_image(model_id: str, request: Request) -> Response:
        """Draws one image of a prompt, in the format that `accept` names."""
        try:
            body = parse_body(TextToImage, await read_body(request, limits.max_body_bytes))
            fields = _fields(body, model_id, request.headers.get("accept", ""))
            wanted = parse_images_fields(fields, replace(limits, max_images=1))
            return _picture(wanted, await backend.draw(wanted))
        except ApiError as error:
            return _refusal(error)


def _fields(body: TextToImage, model_id: str, accept: str) -> Mapping[str, Any]:
    """The request as our own route has it; raises ApiError for what this one can't answer."""
    for name, fix in _ELSEWHERE.items():
        if name in body.parameters:
            raise bad_request(name, "is not a parameter here", fix)
    fields = {"output_format": _format_of(accept), **body.parameters}
    fields |= {"prompt": body.inputs, "model": model_id}
    return fields


def _format_of(accept: str) -> str:
    """That of the first picture's type in a header, png where there is none of ours."""
    wanted = (one.partition(";")[0].strip().lower() for one in accept.split(","))
    named = (one.removeprefix("image/") for one in wanted if one.startswith("image/"))
    return next((name for name in named if name in _FORMATS), "png")


def _picture(request: ImagesRequest, drawn: ImagesResponse) -> Response:
    item = drawn.data[0]
    headers = {SEED_HEADER: str(item.seed)}
    warnings = [*warnings_of(request), *drawn.warnings]
    if warnings:
        headers[WARNINGS_HEADER] = json.dumps(warnings)
    content = base64.b64decode(item.b64_json or "")
    return Response(content, headers=headers, media_type=f"image/{request.output_format}")


def _refusal(error: ApiError) -> JSONResponse:
    waiting = RETRY_SECONDS if error.code == LOADING else None
    body = InferenceError(error=error.message, estimated_time=waiting)
    return JSONResponse(body.model_dump(exclude_none=True), error.status, headers_of(error))
