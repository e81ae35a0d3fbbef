"""The objects of one operator process, how they are wired, and how they end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from typing import Final
from uuid import uuid4

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from darkroom_api.times import utc_now
from darkroom_operator.cluster.client import REQUEST_SECONDS, Cluster
from darkroom_operator.cluster.election import Election, boot_seconds
from darkroom_operator.cluster.errors import UnavailableError
from darkroom_operator.cluster.lease import ClusterLease
from darkroom_operator.cluster.outages import QUIET_SECONDS, Outage, Outages
from darkroom_operator.cluster.rivals import Rivals
from darkroom_operator.cluster.session import Login, new_session
from darkroom_operator.cluster.token_review import TokenReviewer
from darkroom_operator.cluster.watch_answers import WatchAnswerError, WatchAnswers
from darkroom_operator.decisions.observed import Key
from darkroom_operator.health import Health
from darkroom_operator.launch.kuberay import KubeRayLauncher, Launcher
from darkroom_operator.launch.ray_jobs import RayJobsLauncher
from darkroom_operator.leader_endpoint import LeaderEndpoint
from darkroom_operator.memory.resync import Syncer
from darkroom_operator.memory.store import Store
from darkroom_operator.metrics import Metrics
from darkroom_operator.observer import Observer
from darkroom_operator.reconciler import Reconciler
from darkroom_operator.recorder import Recorder
from darkroom_operator.server import ProgressServer
from darkroom_operator.settings import LauncherKind, Settings
from darkroom_operator.workqueue import RetryError, WorkQueue

logger = logging.getLogger(__name__)

RETIRE_SECONDS: Final = 1.0
"""Longest wait for what is under way when this process is to end: another waits for the Lease."""


REFUSED_ERRORS: Final = (WatchAnswerError.__name__, "APIForbiddenError")
"""Errors in kopf's lines about lists and watches that are refused."""


class Process:
    """One operator. Warm from the start; works while it leads."""

    def __init__(
        self,
        settings: Settings,
        login: Login,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], float] = boot_seconds,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`clock` is monotonic; `now` is what jobs are timed by."""
        self.settings, self.login, self._clock = settings, login, clock
        self.synced = asyncio.Event()
        """Set when everything was listed once."""

        self.metrics, self.store = Metrics(), Store()
        self.metrics.count_jobs(self.store.count)
        self.metrics.say_version(version("darkroom"))
        self._outage = Outage(
            "the API server",
            clock,
            quiet_seconds=QUIET_SECONDS,
            ended=lambda: self.health.renew(),
        )
        self._refusals = Outages(clock)
        self.cluster = Cluster(
            session, login.server, self.metrics, self._write_seconds, self._outage
        )
        self.health = Health(
            settings,
            self.metrics,
            clock=clock,
            wall_clock=time.time,
            stuck_seconds=self._stuck_seconds,
            cut_off=lambda: self._outage.ongoing,
        )
        self.watch_answers = WatchAnswers(
            settings, health=self.health, outage=self._outage, refusals=self._refusals
        )
        self.election = Election(
            ClusterLease(self.cluster, settings),
            name=settings.lease_name,
            namespace=settings.pod_namespace,
            identity=f"{settings.pod_name}_{uuid4()}",
            clock=clock,
            on_change=self._lead,
            unanswered=self._outage.note,
        )
        self._endpoint = LeaderEndpoint(self.cluster, settings, clock=clock)
        launcher = self._launcher(session)
        self._reconciler = Reconciler(
            cluster=self.cluster,
            store=self.store,
            launcher=launcher,
            observer=Observer(
                cluster=self.cluster,
                store=self.store,
                launcher=launcher,
                settings=settings,
                now=now,
            ),
            rivals=Rivals(self.cluster, settings.identity, clock),
            recorder=Recorder(self.metrics),
            settings=settings,
            now=now,
        )
        self.queue: WorkQueue[Key] = WorkQueue(
            self._look, workers=settings.workers, told=self._is_told
        )
        self._syncer = Syncer(
            cluster=self.cluster,
            store=self.store,
            health=self.health,
            metrics=self.metrics,
            settings=settings,
            refusals=self._refusals,
            changed=self.queue.add,
        )
        self.metrics.reconciles_in_flight.labels("PersonalizationJob").set_function(
            self.queue.in_flight
        )

    async def run(self) -> None:
        """Serves, compares and works, until cancelled."""
        await self._syncer.first()
        self.synced.set()
        async with asyncio.TaskGroup() as group:
            for part in (self._syncer, self.election, self._endpoint, self.queue):
                group.create_task(part.run())

    def tells_of(self, request: str) -> bool:
        """Whether the log tells why a request of kopf's failed; `request` is kopf's line about it."""
        refused = self._refusals.ongoing and any(error in request for error in REFUSED_ERRORS)
        return self._outage.ongoing or refused

    async def retire(self) -> None:
        """Ends what is under way and lets go of the Lease, so that another process goes on at once."""
        self.queue.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(RETIRE_SECONDS):
                await self.queue.drained()
        await self.election.release()

    def applications(self) -> dict[int, web.Application]:
        """What is served, by port."""
        server = ProgressServer(
            store=self.store,
            reviewer=TokenReviewer(self.cluster, clock=self._clock),
            health=self.health,
            metrics=self.metrics,
            leads=lambda: self.election.leads,
            told=self.queue.add,
            worked_on=self.queue.worked_on,
            clock=self._clock,
        )
        metrics = web.Application()
        metrics.router.add_get("/metrics", self._metrics)
        return {
            self.settings.port: server.application(),
            self.settings.metrics_port: metrics,
        }

    def _launcher(self, session: aiohttp.ClientSession) -> Launcher:
        if self.settings.launcher is LauncherKind.RAY_JOBS:
            return RayJobsLauncher(session, self.settings)
        return KubeRayLauncher(self.cluster, self.store, self.settings, self.health.kuberay_found)

    def _lead(self, leads: bool) -> None:
        """Begins to work with a look at every job, or stops to begin anything."""
        self.metrics.leader.set(leads)
        self._endpoint.lead(leads)
        if not leads:
            self.queue.close()
            return
        for key in self.store.jobs():
            self.queue.add(key)
        self.queue.open()

    async def _look(self, key: Key) -> float | None:
        """Looks at a job, unless not all that belongs to it was listed: it comes again when it was."""
        if not self._syncer.knows(key.namespace):
            return None
        return await self._reconciler.reconcile(key)

    def _is_told(self, error: RetryError) -> bool:
        """Whether a job failed for an outage of the apiserver, which is told once for all."""
        return self._outage.ongoing and isinstance(error.__cause__, UnavailableError)

    def _write_seconds(self) -> float:
        return min(self.election.write_seconds(), REQUEST_SECONDS)

    def _stuck_seconds(self) -> float:
        return self.queue.oldest_seconds()

    async def _metrics(self, request: web.Request) -> web.Response:
        text = generate_latest(self.metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


@asynccontextmanager
async def new_process(settings: Settings) -> AsyncIterator[Process]:
    """A process that is connected and serves, and is taken down in the end."""
    login = Login()
    async with new_session(login) as session:
        process = Process(settings, login, session)
        runners = []
        for port, application in process.applications().items():
            runner = web.AppRunner(application, handle_signals=False, access_log=None)
            await runner.setup()
            runners.append(runner)
            await web.TCPSite(runner, port=port).start()
        try:
            yield process
        finally:
            for runner in runners:
                await runner.cleanup()
