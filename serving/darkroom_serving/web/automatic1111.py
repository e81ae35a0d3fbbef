"""/sdapi/v1: text to image, models and samplers in the shape of AUTOMATIC1111's API.

What has a state there, the chosen checkpoint and the progress of the one picture, is not here.
"""

import json
from typing import Any, Final, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from darkroom_sampling.samplers import AUTOMATIC1111
from darkroom_serving.errors import ApiError, headers_of
from darkroom_serving.settings import Limits
from darkroom_serving.web.automatic1111_body import parse_txt2img
from darkroom_serving.web.bodies import read_body
from darkroom_serving.web.images_body import warnings_of
from darkroom_serving.web.openapi import errors
from darkroom_serving.web.parsing import read_strict_object
from darkroom_serving.web.wire import ImagesRequest, ImagesResponse, ModelCard

_SHORT_HASH: Final = 10
"""Characters of a model's digest where that API has a short hash."""

_PATH: Final = "/sdapi/v1"

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "required": ["prompt"]}}},
    }
}


class DrawingAndListing(Protocol):
    """What draws, and knows its models."""

    async def draw(self, request: ImagesRequest) -> ImagesResponse:
        """Draws images; raises ApiError."""
        ...

    async def list_models(self) -> list[ModelCard]:
        """The models that can draw, the base model first."""
        ...


class Txt2ImgAnswer(BaseModel):
    """Answer of `POST /sdapi/v1/txt2img`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    images: list[str]
    """PNG files in base64."""

    parameters: dict[str, Any]
    """The request."""

    info: str
    """JSON: what the images were drawn with, their seeds, and `warnings`."""


class Refusal(BaseModel):
    """An error in that API's shape."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    error: str
    """A word for programs."""

    detail: str
    """What is wrong, and what to do about it."""

    errors: str
    """The same."""

    body: str = ""
    """Always empty."""


def add_automatic1111(app: FastAPI, backend: DrawingAndListing, limits: Limits) -> None:
    """Adds the routes to an app."""
    _add_txt2img(app, backend, limits)

    @app.get(f"{_PATH}/sd-models")
    async def sd_models() -> list[dict[str, str | None]]:
        """The models; a request names one in override_settings.sd_model_checkpoint."""
        return [_model_item(card) for card in await backend.list_models()]

    @app.get(f"{_PATH}/samplers")
    async def samplers() -> list[dict[str, Any]]:
        """The samplers, by their names there."""
        return [
            {"name": name, "aliases": [str(sampler)], "options": {}}
            for sampler, name in AUTOMATIC1111.items()
        ]

    @app.get(f"{_PATH}/options")
    async def options() -> dict[str, str]:
        """The model that draws when a request names none."""
        cards = await backend.list_models()
        return {"sd_model_checkpoint": cards[0].id} if cards else {}


def _add_txt2img(app: FastAPI, backend: DrawingAndListing, limits: Limits) -> None:
    @app.post(
        f"{_PATH}/txt2img",
        response_model=Txt2ImgAnswer,
        responses={**errors(400, 404, 413, 415, 429, 503, model=Refusal), **errors(403)},
        openapi_extra=_BODY,
    )
    async def txt2img(request: Request) -> Response:
        """Draws images of a prompt."""
        try:
            body = read_strict_object(await read_body(request, limits.max_body_bytes))
            wanted = parse_txt2img(body, limits)
            answer = _answer(body, wanted, await backend.draw(wanted))
        except ApiError as error:
            return _refuse(error)
        return JSONResponse(answer.model_dump())


def _answer(body: dict[str, Any], request: ImagesRequest, drawn: ImagesResponse) -> Txt2ImgAnswer:
    images = [item.b64_json or "" for item in drawn.data]
    info = json.dumps(_info(request, drawn), ensure_ascii=False)
    return Txt2ImgAnswer(images=images, parameters=body, info=info)


def _info(request: ImagesRequest, drawn: ImagesResponse) -> dict[str, Any]:
    used = drawn.parameters
    width, _, height = used.size.partition("x")
    seeds = [item.seed for item in drawn.data]
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * len(seeds),
        "negative_prompt": request.negative_prompt,
        "seed": seeds[0],
        "all_seeds": seeds,
        "width": int(width),
        "height": int(height),
        "sampler_name": AUTOMATIC1111[used.sampler],
        "cfg_scale": used.guidance_scale,
        "steps": used.num_inference_steps,
        "batch_size": len(seeds),
        "sd_model_name": used.model,
        "sd_model_hash": used.digest[:_SHORT_HASH],
        "infotexts": [_infotext(request, drawn, seed) for seed in seeds],
        "warnings": [*warnings_of(request), *drawn.warnings],
    }


def _infotext(request: ImagesRequest, drawn: ImagesResponse, seed: int) -> str:
    """The text by which that interface draws a picture again."""
    used = drawn.parameters
    facts = {
        "Steps": used.num_inference_steps,
        "Sampler": AUTOMATIC1111[used.sampler],
        "CFG scale": f"{used.guidance_scale:g}",
        "Seed": seed,
        "Size": used.size,
        "Model hash": used.digest[:_SHORT_HASH],
        "Model": used.model,
    }
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in facts.items())])


def _model_item(card: ModelCard) -> dict[str, str | None]:
    short = card.digest[:_SHORT_HASH]
    return {
        "title": card.id,
        "model_name": card.id,
        "hash": short,
        "sha256": card.digest,
        "filename": card.id,
        "config": None,
    }


def _refuse(error: ApiError) -> JSONResponse:
    body = Refusal(error=error.code or error.kind, detail=error.message, errors=error.message)
    return JSONResponse(body.model_dump(), error.status, headers_of(error))
