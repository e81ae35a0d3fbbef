"""POST /v1/images/generations: OpenAI's Images API."""

from typing import Any, Final, Protocol

from fastapi import FastAPI, Request

from darkroom_serving.settings import Limits
from darkroom_serving.web.bodies import body_of, read_body
from darkroom_serving.web.images_body import parse_images_request, warnings_of
from darkroom_serving.web.openapi import errors
from darkroom_serving.web.wire import ImageData, ImagesRequest, ImagesResponse


class Drawing(Protocol):
    """What draws."""

    async def draw(self, request: ImagesRequest) -> ImagesResponse:
        """Draws images; raises ApiError."""
        ...


def add_images(app: FastAPI, backend: Drawing, limits: Limits) -> None:
    """Adds the route to an app."""

    @app.post(
        "/v1/images/generations",
        response_model_exclude_none=True,
        responses=errors(400, 403, 404, 413, 415, 429, 503),
        openapi_extra=_body_within(limits),
    )
    async def generate(request: Request) -> ImagesResponse:
        """Draws images of a prompt."""
        body = await read_body(request, limits.max_body_bytes)
        wanted = parse_images_request(body, limits)
        return answer_of(wanted, await backend.draw(wanted))


def answer_of(request: ImagesRequest, drawn: ImagesResponse) -> ImagesResponse:
    """What was drawn, handed over as the request wants it, with what it asks for in vain."""
    data = drawn.data
    if request.response_format == "url":
        data = [_as_url(item, request.output_format) for item in data]
    warnings = [*warnings_of(request), *drawn.warnings]
    changes = {"data": data, "output_format": request.output_format, "warnings": warnings}
    return drawn.model_copy(update=changes)


def _as_url(item: ImageData, output_format: str) -> ImageData:
    return ImageData(url=f"data:image/{output_format};base64,{item.b64_json}", seed=item.seed)


_LARGEST: Final = {"n": "max_images", "num_inference_steps": "max_steps"}


def _body_within(limits: Limits) -> dict[str, Any]:
    """The body with the server's own limits, for the OpenAPI document."""
    described = body_of(ImagesRequest, "application/json")
    fields = described["requestBody"]["content"]["application/json"]["schema"]["properties"]
    for name, limit in _LARGEST.items():
        fields[name]["maximum"] = getattr(limits, limit)
    for name in ("prompt", "negative_prompt"):
        fields[name]["maxLength"] = limits.max_prompt_chars
    return described
