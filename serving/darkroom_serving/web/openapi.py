"""What the OpenAPI document says of errors: each status that a route can answer with, and its body."""

from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

_Responses = dict[int | str, dict[str, Any]]

_MEANINGS: Final = {
    400: "A field is wrong; `param` names it.",
    403: "A web page of an origin that is not allowed.",
    404: "There is no such model.",
    413: "The body is too large.",
    415: "The content type or encoding is not read.",
    429: "Too many requests wait; `retry-after` says when to come back.",
    500: "The server or a model's files are at fault.",
    503: "Still loading; `retry-after` says when to come back.",
}

_NEVER: Final = "422"
"""FastAPI's own status for what it checks; bodies and queries are checked here, and answered with 400."""


class ErrorFields(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    message: str
    """In words: the field, the problem and what to do."""

    type: str
    """OpenAI's kind of error, for example invalid_request_error."""

    param: str | None
    """The field that is wrong."""

    code: str | None
    """A word for programs, for example model_not_found."""


class ErrorBody(BaseModel):
    """Body of every answer that is an error, in OpenAI's shape."""

    model_config = ConfigDict(frozen=True)

    error: ErrorFields


def errors(*statuses: int, model: type[BaseModel] = ErrorBody) -> _Responses:
    """The `responses` of a route that can answer with these statuses."""
    return {status: {"model": model, "description": _MEANINGS[status]} for status in statuses}


def describe_exactly(app: FastAPI) -> None:
    """Lets the document of an app name only statuses that come."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop(_NEVER, None)
        schemas = document.get("components", {}).get("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
