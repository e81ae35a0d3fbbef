"""HEAD and OPTIONS on every route, as HTTP has them (RFC 9110, sections 9.3.2 and 9.3.7)."""

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class EveryMethod:
    """Answers HEAD as GET without its body, and OPTIONS with the methods that a path takes."""

    def __init__(self, app: ASGIApp, routes: FastAPI) -> None:
        """`routes` is the application whose paths are asked about."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        method = scope.get("method")
        if method == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        elif method == "OPTIONS" and (methods := self._methods_of(scope)):
            await Response(status_code=204, headers={"allow": methods})(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _methods_of(self, scope: Scope) -> str:
        """For the header `allow`; empty for a path that is not there."""
        methods = {
            method
            for route in self._routes.router.routes
            if route.matches(scope)[0] is not Match.NONE
            for method in getattr(route, "methods", None) or ()
        }
        if "GET" in methods:
            methods.add("HEAD")
        return ", ".join(sorted({*methods, "OPTIONS"})) if methods else ""


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
