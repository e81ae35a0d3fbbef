"""Bodies of requests: how they are read, and how the OpenAPI document describes them."""

import zlib
from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel

from darkroom_serving.errors import ApiError, bad_request, too_large

_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
"""What zlib reads: both kinds of headers."""

_COMPRESSED: Final = ("gzip", "x-gzip", "deflate")


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body, decompressed; raises ApiError as soon as it turns out to be larger."""
    unpack = _unpacker(request.headers.get("content-encoding", ""))
    body = bytearray()
    async for chunk in request.stream():
        # One byte more than may be: a small body can hold any number of them.
        body += unpack.decompress(chunk, most_bytes + 1 - len(body)) if unpack else chunk
        if len(body) > most_bytes:
            raise too_large("the body of the request", most_bytes)
    if unpack and not unpack.whole:
        raise bad_request("content-encoding", "the body is cut off", "send all of it")
    return bytes(body)


class _Unpacker:
    """Decompresses a body as it comes."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    @property
    def whole(self) -> bool:
        """Whether the end was read."""
        return self._zlib.eof

    def decompress(self, chunk: bytes, most_bytes: int) -> bytes:
        """The next bytes, at most so many; raises ApiError for what is not compressed so."""
        try:
            return self._zlib.decompress(chunk, most_bytes)
        except zlib.error:
            fix = "compress it with gzip, or leave out content-encoding"
            raise bad_request("content-encoding", "the body is damaged", fix) from None


def _unpacker(encoding: str) -> _Unpacker | None:
    """What reads the encoding; None for none, ApiError for one that is not read."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in _COMPRESSED:
        return _Unpacker()
    message = f"content-encoding: {name[:40]} is not read; use gzip, or none"
    raise ApiError(415, message, "content-encoding", "unsupported_media_type")


def body_of(model: type[BaseModel], media_type: str) -> dict[str, Any]:
    """Describes a body that is read by hand, for the OpenAPI document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    for name, field in schema["properties"].items():
        if reference := field.pop("$ref", None):
            schema["properties"][name] = definitions[reference.rpartition("/")[2]] | field
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}
