"""Which web pages of other origins may use the server: none, unless a setting names them."""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from darkroom_serving.errors import ApiError, error_body
from darkroom_serving.web.hugging_face import SEED_HEADER, WARNINGS_HEADER

ANY: Final = "*"
"""The setting for pages of every origin."""

_WITHOUT_ASKING: Final = (
    "",
    "text/plain",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
)
"""Content types that a browser sends for any page without a preflight (Fetch standard, 2.2.2)."""


def guard_origins(app: FastAPI, allowed: Collection[str]) -> None:
    """Refuses what pages of other origins post without asking; lets those of the setting ask and post."""
    app.add_middleware(_NoForeignForms, allowed=allowed)
    if allowed:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["retry-after", SEED_HEADER, WARNINGS_HEADER],
        )


class _NoForeignForms:
    """Answers 403 to what a page of another origin posts as a form's content type."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and self._is_foreign(scope):
            await _refusal()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_foreign(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or origin in self._allowed or ANY in self._allowed:
            return False
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_own = urlsplit(origin).netloc == headers.get("host")
        return not is_own and media_type in _WITHOUT_ASKING


def _refusal() -> JSONResponse:
    message = (
        "origin: pages of other sites may not post here; let the server allow the origin"
        " (darkroom serve --allow-origin), or send application/json from a program"
    )
    return JSONResponse(error_body(ApiError(403, message, None, "origin_not_allowed")), 403)
