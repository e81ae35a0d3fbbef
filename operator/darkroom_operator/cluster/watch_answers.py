"""What the responses to kopf's requests tell: a live watch, a refusal, or an API server that is down.

kopf ends the whole operator when a watch is answered 404, and asks for another login at a 401. But a CRD
may come back, and our logins renew themselves. So kopf is shown a lost connection instead, and asks again.
"""

import http

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from darkroom_operator.cluster.answers import is_unavailable
from darkroom_operator.cluster.outages import Outage, Outages
from darkroom_operator.cluster.resources import Scope, watched
from darkroom_operator.health import Health
from darkroom_operator.settings import Settings


class WatchAnswerError(aiohttp.ClientConnectionError):
    """An answer that kopf would take too hard."""


class WatchAnswers:
    """A middleware of the session that kopf uses."""

    def __init__(
        self, settings: Settings, *, health: Health, outage: Outage, refusals: Outages
    ) -> None:
        """`outage` is told of the API server, `refusals` of each list and watch."""
        self._health, self._outage, self._refusals = health, outage, refusals
        self._watched = {resource.plural: resource for resource in watched(settings.launcher)}

    async def __call__(self, request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
        """Sends a request and learns from the answer."""
        try:
            response = await send(request)
        except (aiohttp.ClientError, OSError) as error:
            self._outage.note(str(error) or type(error).__name__)
            raise
        status, why = response.status, f"{response.status} {response.reason}"
        unavailable, cut_off = is_unavailable(status), self._outage.ongoing
        self._outage.note(why if unavailable else None)
        scope = self._scope(request)
        if scope is not None and not unavailable:
            opens = bool(request.url.query.get("watch"))
            self._learn(scope, status, why, opens=opens, cut_off=cut_off)
        if status == http.HTTPStatus.UNAUTHORIZED or (
            scope is not None and status == http.HTTPStatus.NOT_FOUND
        ):
            response.release()
            raise WatchAnswerError(f"{request.url.path}: {why}")
        return response

    def _learn(self, scope: Scope, status: int, why: str, *, opens: bool, cut_off: bool) -> None:
        # An apiserver that has just started forbids everything until it has read the roles.
        if status in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.NOT_FOUND) and not cut_off:
            self._refusals.note(str(scope), why)
        elif status == http.HTTPStatus.OK:
            self._refusals.note(str(scope), None)
            if opens:
                self._health.opened(scope.resource.plural)

    def _scope(self, request: ClientRequest) -> Scope | None:
        """What a list or a watch is of; None of what the operator does not keep."""
        *parents, plural = request.url.path.strip("/").split("/")
        if (resource := self._watched.get(plural)) is None:
            return None
        return Scope(resource, parents[-1] if "namespaces" in parents else None)
