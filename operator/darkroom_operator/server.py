"""The HTTP server: attempts report their progress, the kubelet probes the health of this process.

    PUT /v1/jobs/NAMESPACE/NAME/attempts/NUMBER/progress     body: `darkroom_api.report.ProgressReport`
    GET /healthz, /readyz

A pod may report for its own attempt only. A standby answers 503 with Retry-After: the sender connects
anew and finds the leader. 410 means that the job is being deleted with its model: there is nothing to save.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from darkroom_api.report import ProgressReport
from darkroom_api.times import utc_now
from darkroom_operator.cluster.errors import ClusterError
from darkroom_operator.cluster.token_review import Caller, TokenReviewer
from darkroom_operator.decisions.observed import Key
from darkroom_operator.health import Health
from darkroom_operator.memory.store import Store
from darkroom_operator.metrics import Metrics

MAX_BODY_BYTES: Final = 64 << 10
"""Largest report; an ordinary one has some hundred bytes."""

REPORT_SECONDS: Final = 1.0
"""Least time between two reports of an attempt."""

PUBLISH_SECONDS: Final = 3.0
"""Longest wait for a model to be in the status: the trainer waits 5 s for an answer, then sends again."""

RETRY_AFTER: Final = {"Retry-After": "1"}

PROGRESS_PATH: Final = "/v1/jobs/{namespace}/{name}/attempts/{number:[0-9]{1,6}}/progress"


class ProgressServer:
    """Answers requests; tells the store and the queue of reports."""

    def __init__(
        self,
        *,
        store: Store,
        reviewer: TokenReviewer,
        health: Health,
        metrics: Metrics,
        leads: Callable[[], bool],
        told: Callable[[Key], None],
        worked_on: Callable[[Key], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        """`clock` is monotonic.

        `told` is given the job that a report was about; `worked_on` waits until a look at a job has ended.
        """
        self._store, self._reviewer, self._health = store, reviewer, health
        self._metrics, self._leads, self._clock = metrics, leads, clock
        self._told, self._worked_on = told, worked_on
        self._accepted: dict[tuple[Key, str], float] = {}

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=(self._count,))
        app.router.add_put(PROGRESS_PATH, self._progress)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    @web.middleware
    async def _count(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Counts the answers to reports, those by exception as well."""
        code = 500
        try:
            response = await handler(request)
            code = response.status
        except web.HTTPException as error:
            code = error.status
            raise
        finally:
            if request.method == "PUT":
                self._metrics.progress_reports.labels(str(code)).inc()
        return response

    async def _progress(self, request: web.Request) -> web.Response:
        if not self._leads():
            raise web.HTTPServiceUnavailable(text="this replica does not lead", headers=RETRY_AFTER)
        key = Key(request.match_info["namespace"], request.match_info["name"])
        attempt = f"{key.name}-{request.match_info['number']}"
        caller = await self._authenticate(request)
        pod = self._store.pod(Key(caller.namespace, caller.pod))
        if caller.namespace != key.namespace or pod is None or pod.attempt != attempt:
            raise web.HTTPForbidden(text=f"pod {caller.pod} is not of attempt {attempt}")
        if self._is_wiped(key):
            raise web.HTTPGone(text=f"job {key} is being deleted together with its model")
        self._limit(key, attempt)
        report = _parse(await request.read())
        self._store.report(key, attempt, report, utc_now())
        self._told(key)
        if report.model is not None and not await self._published(key, attempt, report):
            raise web.HTTPServiceUnavailable(text="not in the status yet", headers=RETRY_AFTER)
        return web.Response(status=204)

    def _is_wiped(self, key: Key) -> bool:
        """Whether all that an attempt may still save is removed at once."""
        if not self._store.is_deleting(key):  # a job is not parsed for each of its reports
            return False
        observed = self._store.observe(key)
        return observed is not None and observed.job.removes_model

    async def _published(self, key: Key, attempt: str, report: ProgressReport) -> bool:
        """Whether the model is in the status, after a while.

        Its report is the last one, and what only this process knows would die with it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PUBLISH_SECONDS):
                while not self._is_published(key, attempt, report):
                    await self._worked_on(key)
                return True
        return False

    def _is_published(self, key: Key, attempt: str, report: ProgressReport) -> bool:
        observed = self._store.observe(key)
        if observed is None or observed.job.status.model == report.model:
            return True
        last = observed.job.status.newest_attempt
        return last is None or last.name != attempt  # too late: nobody waits for it

    async def _authenticate(self, request: web.Request) -> Caller:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise web.HTTPUnauthorized(text="a bearer token is needed")
        try:
            caller = await self._reviewer.caller(token)
        except ClusterError as error:
            raise web.HTTPServiceUnavailable(text=str(error), headers=RETRY_AFTER) from error
        if caller is None:
            raise web.HTTPUnauthorized(text="the token is not valid here")
        return caller

    def _limit(self, key: Key, attempt: str) -> None:
        """Turns away what comes too fast; forgets the times that no longer matter."""
        now = self._clock()
        last = self._accepted.get((key, attempt))
        if last is not None and now < last + REPORT_SECONDS:
            raise web.HTTPTooManyRequests(text="one report a second", headers=RETRY_AFTER)
        self._accepted.pop((key, attempt), None)
        self._accepted[key, attempt] = now
        oldest = next(iter(self._accepted))
        if self._accepted[oldest] + REPORT_SECONDS < now:
            del self._accepted[oldest]

    async def _healthz(self, request: web.Request) -> web.Response:
        illness = self._health.illness()
        return web.Response(status=200 if illness is None else 500, text=illness or "ok")

    async def _readyz(self, request: web.Request) -> web.Response:
        """A standby that knows the cluster is ready: it can take over at once."""
        if not self._health.synced:
            return web.Response(status=503, text="not synced yet")
        return web.Response(text="leading" if self._leads() else "standby")


def _parse(body: bytes) -> ProgressReport:
    try:
        return ProgressReport.model_validate_json(body)
    except ValidationError as error:
        text = error.json(include_url=False, include_input=False)
        raise web.HTTPUnprocessableEntity(text=text, content_type="application/json") from error
