"""POST /v1/classify: a picture in the body, as its file or in JSON."""

import asyncio
import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Final, Protocol

from fastapi import Depends, FastAPI, Request

from darkroom_serving.errors import ApiError, bad_request
from darkroom_serving.web.bodies import body_of, read_body
from darkroom_serving.web.parsing import check_names, parse_body
from darkroom_serving.web.wire import DEFAULT_TOP_K, ClassifyRequest, ClassifyResponse, shown

MAX_PICTURE_BYTES: Final = 20 << 20
"""Largest body that is a picture's file."""

MAX_JSON_PICTURE_BYTES: Final = MAX_PICTURE_BYTES * 4 // 3 + 4096
"""Largest JSON body of a picture: base64 takes four bytes for three."""


_COUNT: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


class Classifying(Protocol):
    """What classifies."""

    async def classify(self, picture: bytes, top_k: int) -> ClassifyResponse:
        """Classifies a picture's file; raises ApiError."""
        ...


def add_classify(app: FastAPI, backend: Classifying) -> None:
    """Adds the route to an app."""

    @app.post("/v1/classify", openapi_extra=_CLASSIFY_BODY)
    async def classify(
        picture: Annotated[tuple[bytes, int], Depends(_read_picture)],
    ) -> ClassifyResponse:
        """Says what a picture shows. Send its file, or JSON with the file in base64."""
        return await backend.classify(*picture)


def parse_classify_request(body: bytes) -> tuple[bytes, int]:
    """The picture's bytes and the number of labels asked for; raises ApiError."""
    request = parse_body(ClassifyRequest, body)
    try:
        return base64.b64decode(request.image, validate=True), request.top_k
    except (binascii.Error, ValueError):
        fix = "encode the picture's file, without line breaks and without data: before it"
        raise bad_request("image", "is not base64", fix) from None


def parse_top_k(query: Mapping[str, str]) -> int:
    """The number of labels that a query, which has no other parameter, asks for; raises ApiError."""
    check_names(query, ["top_k"])
    text = query.get("top_k", str(DEFAULT_TOP_K))
    if not _COUNT.fullmatch(text):
        raise bad_request("top_k", f"{shown(text)} is not a number of labels", "write 1 or more")
    return int(text)


async def _read_picture(request: Request) -> tuple[bytes, int]:
    """The bytes of the picture's file and the number of labels; raises ApiError."""
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        body = await read_body(request, MAX_JSON_PICTURE_BYTES)
        return await asyncio.to_thread(parse_classify_request, body)  # takes a while for 20 MiB
    if media_type == "application/octet-stream" or media_type.startswith("image/"):
        top_k = parse_top_k(request.query_params)
        return await read_body(request, MAX_PICTURE_BYTES), top_k
    raise ApiError(
        415,
        f"content-type: {media_type[:80]} is not read; send the picture's file as image/png or"
        ' application/octet-stream, or application/json with {"image": BASE64}',
        None,
        "unsupported_media_type",
    )


_CLASSIFY_BODY: Final = body_of(ClassifyRequest, "application/json")
_CLASSIFY_BODY["requestBody"]["content"] |= {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
}
