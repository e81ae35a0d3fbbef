"""The objects of one operator process, how they are wired, and how they end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Final
from uuid import uuid4

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from darkroom_operator.cluster import REQUEST_SECONDS, Cluster
from darkroom_operator.health import Health
from darkroom_operator.launchers import KubeRayLauncher, Launcher
from darkroom_operator.lease import Election
from darkroom_operator.lease_api import ClusterLease
from darkroom_operator.metrics import Metrics
from darkroom_operator.observed import Key
from darkroom_operator.ray_jobs import RayJobsLauncher
from darkroom_operator.reconciler import Reconciler
from darkroom_operator.recorder import Recorder
from darkroom_operator.server import ProgressServer
from darkroom_operator.session import Login, new_session
from darkroom_operator.settings import LauncherKind, Settings
from darkroom_operator.store import Store
from darkroom_operator.syncing import Syncer
from darkroom_operator.times import utc_now
from darkroom_operator.tokens import TokenReviewer
from darkroom_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

RETIRE_SECONDS: Final = 1.0
"""Longest wait for what is under way when this process is to end: another waits for the Lease."""


class Process:
    """One operator. Warm from the start; works while it leads."""

    def __init__(
        self,
        settings: Settings,
        login: Login,
        session: aiohttp.ClientSession,
    ) -> None:
        self.settings, self.login = settings, login
        self.synced = asyncio.Event()
        """Set when everything was listed once."""

        self.metrics, self.store = Metrics(), Store()
        self.metrics.count_jobs(self.store.count)
        self.metrics.say_version(version("darkroom"))
        self.cluster = Cluster(session, login.server, self.metrics, self._write_seconds)
        self.health = Health(
            settings,
            self.metrics,
            clock=time.monotonic,
            wall_clock=time.time,
            stuck_seconds=self._stuck_seconds,
        )
        self.election = Election(
            ClusterLease(self.cluster, settings),
            name=settings.lease_name,
            namespace=settings.pod_namespace,
            identity=f"{settings.pod_name}_{uuid4()}",
            clock=time.monotonic,
            on_change=self._lead,
        )
        reconciler = Reconciler(
            cluster=self.cluster,
            store=self.store,
            launcher=self._launcher(session),
            recorder=Recorder(self.metrics),
            settings=settings,
            now=utc_now,
        )
        self.queue: WorkQueue[Key] = WorkQueue(reconciler.reconcile, workers=settings.workers)
        self._syncer = Syncer(
            cluster=self.cluster,
            store=self.store,
            health=self.health,
            metrics=self.metrics,
            settings=settings,
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
            for work in (self._syncer.run(), self.election.run(), self.queue.run()):
                group.create_task(work)

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
            reviewer=TokenReviewer(self.cluster, clock=time.monotonic),
            health=self.health,
            metrics=self.metrics,
            leads=lambda: self.election.leads,
            told=self.queue.add,
            clock=time.monotonic,
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
        if not leads:
            self.queue.close()
            return
        for key in self.store.jobs():
            self.queue.add(key)
        self.queue.open()

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
