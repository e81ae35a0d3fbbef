"""What can go wrong: refusals of a request in OpenAI's JSON shape, and reasons not to start.

https://platform.openai.com/docs/guides/error-codes: {"error": {"message", "type", "param", "code"}}.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from darkroom_api.words import counted

INVALID_REQUEST: Final = "invalid_request_error"
SERVER_ERROR: Final = "server_error"
RATE_LIMIT: Final = "rate_limit_exceeded"

LOADING: Final = "loading"
"""Code of the error that passes by itself."""

RETRY_SECONDS: Final = 2
"""When a client that was turned away should come back."""

logger = logging.getLogger(__name__)


class ServingError(Exception):
    """A server can't start; the message says what to do."""


class PortInUseError(ServingError):
    """Something else listens on the port."""


class ApiError(Exception):
    """A request that is answered with an error; survives pickling, so it crosses replicas."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID_REQUEST,
    ) -> None:
        """`param` is the field that is wrong, `kind` what OpenAI calls the error's type."""
        super().__init__(status, message, param, code, kind)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind = kind

    def __str__(self) -> str:
        return self.message


def bad_request(param: str | None, problem: str, fix: str, code: str | None = None) -> ApiError:
    """A field of a request is wrong."""
    where = f"{param}: " if param else ""
    return ApiError(400, f"{where}{problem}; {fix}", param, code)


def too_large(what: str, limit_bytes: int) -> ApiError:
    """A body has more bytes than are read."""
    limit = f"{limit_bytes / 2**20:g} MiB"
    return ApiError(413, f"{what} is larger than {limit}; send less", None, "request_too_large")


def not_ready(what: str) -> ApiError:
    """Something is still being loaded."""
    return ApiError(503, f"{what} is still being loaded; try again", None, LOADING, SERVER_ERROR)


def too_busy(waiting: int) -> ApiError:
    """As many requests wait as may."""
    message = (
        f"{counted(waiting, 'request')} in the queue already; try again in {RETRY_SECONDS} seconds"
    )
    return ApiError(429, message, None, RATE_LIMIT, RATE_LIMIT)


def error_body(error: ApiError) -> dict[str, Any]:
    """The body that tells a client of an error."""
    fields = {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
    }
    return {"error": fields}


def install_handlers(app: FastAPI) -> None:
    """Lets every error of an app be answered in OpenAI's shape."""
    app.add_exception_handler(ApiError, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_crash)


def _respond(error: ApiError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error_body(error), error.status, dict(headers or {}))


def headers_of(error: ApiError) -> dict[str, str]:
    """Tells the OpenAI client, which repeats requests after 429 and from 500 on, when that helps."""
    if error.status in (429, 503):
        return {"retry-after": str(RETRY_SECONDS)}
    return {"x-should-retry": "false"} if error.status >= 500 else {}


async def _answer_refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # also when it comes from another replica
    if error.status == 500:  # the client is not told the cause
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _respond(error, headers_of(error))


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and wrong methods, as the router finds them."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        refusal = ApiError(404, f"there is no {path}; see /docs", None, "unknown_url")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{path} does not take {request.method}; use {allowed}"
        refusal = ApiError(405, message, None, "method_not_allowed")
    else:
        refusal = ApiError(error.status_code, str(error.detail))
    return _respond(refusal, error.headers)


async def _answer_crash(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    message = "the server failed; its log says why, try again or report it"
    return _respond(ApiError(500, message, None, "internal_error", SERVER_ERROR))
