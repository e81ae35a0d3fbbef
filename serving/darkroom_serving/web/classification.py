"""POST /v1/classify: one picture or several, in the forms of `classify_body`."""

import asyncio
from typing import Annotated, Final, Protocol

from fastapi import Depends, FastAPI, Request

from darkroom_serving.web.bodies import body_of, read_body
from darkroom_serving.web.classify_body import (
    MULTIPART,
    PICTURE_FIELDS,
    URLENCODED,
    ClassifyRequest,
    Order,
    parse_json,
    parse_multipart,
    parse_raw,
    parse_urlencoded,
    refuse_media_type,
)
from darkroom_serving.web.openapi import errors
from darkroom_serving.web.wire import ClassifyResponse, ScoreFunction

MAX_PICTURE_BYTES: Final = 20 << 20
"""Largest body that is a picture's file."""

MAX_ENCODED_BYTES: Final = MAX_PICTURE_BYTES * 4 // 3 + 4096
"""Largest body of JSON or a form, whatever the number of its pictures: base64 takes four bytes for three."""


class Classifying(Protocol):
    """What classifies."""

    async def classify(
        self, picture: bytes, top_k: int, function: ScoreFunction | None = None
    ) -> ClassifyResponse:
        """Classifies a picture's file; raises ApiError."""
        ...


def add_classify(app: FastAPI, backend: Classifying) -> None:
    """Adds the route to an app."""

    @app.post(
        "/v1/classify",
        responses=errors(400, 403, 413, 415, 429, 503),
        openapi_extra=_CLASSIFY_BODY,
    )
    async def classify(
        order: Annotated[Order, Depends(_read_order)],
    ) -> ClassifyResponse | list[ClassifyResponse]:
        """Says what pictures show. Send a picture's file, a form, or JSON with the file in base64."""
        answers = await asyncio.gather(
            *(backend.classify(one, order.top_k, order.function) for one in order.pictures)
        )
        return list(answers) if order.is_list else answers[0]


async def _read_order(request: Request) -> Order:
    """What the body asks for; raises ApiError. Parsed in threads: 20 MiB take a while."""
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip().lower()
    query = dict(request.query_params)
    if media_type == "application/octet-stream" or media_type.startswith("image/"):
        return parse_raw(await read_body(request, MAX_PICTURE_BYTES), query)
    if media_type not in ("application/json", MULTIPART, URLENCODED):
        raise refuse_media_type(media_type)
    body = await read_body(request, MAX_ENCODED_BYTES)
    if media_type == "application/json":
        return await asyncio.to_thread(parse_json, body)
    if media_type == MULTIPART:
        return await asyncio.to_thread(parse_multipart, body, content_type, query)
    return await asyncio.to_thread(parse_urlencoded, body, query)


_FILE: Final = {"type": "string", "format": "binary"}

_CLASSIFY_BODY: Final = body_of(ClassifyRequest, "application/json")
_CLASSIFY_BODY["requestBody"]["content"] |= {
    media_type: {"schema": _FILE}
    for media_type in ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
} | {MULTIPART: {"schema": {"type": "object", "properties": dict.fromkeys(PICTURE_FIELDS, _FILE)}}}
