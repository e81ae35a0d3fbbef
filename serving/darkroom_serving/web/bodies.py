"""Bodies of requests: how they are read, and how the OpenAPI document describes them."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel

from darkroom_serving.errors import too_large


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body; raises ApiError as soon as it turns out to be larger."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise too_large("the body of the request", most_bytes)
    return bytes(body)


def body_of(model: type[BaseModel], media_type: str) -> dict[str, Any]:
    """Describes a body that is read by hand, for the OpenAPI document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    for name, field in schema["properties"].items():
        if reference := field.pop("$ref", None):
            schema["properties"][name] = definitions[reference.rpartition("/")[2]] | field
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}
