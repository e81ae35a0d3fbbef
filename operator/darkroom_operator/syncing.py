"""Compares the memory with the cluster, in full: what watches missed is found, what is a ghost is laid.

kopf lists again after a broken watch but does not tell what has disappeared in between, and a stream can
be silent although its connection stands. So this is done now and then, and before anything else.
"""

import asyncio
import logging
from collections.abc import Callable

from darkroom_operator.cluster import Cluster
from darkroom_operator.errors import ClusterError, NotInstalledError
from darkroom_operator.health import Health
from darkroom_operator.metrics import Metrics
from darkroom_operator.observed import Key
from darkroom_operator.reading import job_key
from darkroom_operator.resources import Resource, watched
from darkroom_operator.settings import Settings
from darkroom_operator.store import Store

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""Wait after a comparison that did not succeed."""


class Syncer:
    """Lists everything and brings the store up to date."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        health: Health,
        metrics: Metrics,
        settings: Settings,
        changed: Callable[[Key], None],
    ) -> None:
        """`changed` is told each job for which something was news."""
        self._cluster, self._store, self._health = cluster, store, health
        self._metrics, self._settings, self._changed = metrics, settings, changed

    async def first(self) -> None:
        """Compares until it has succeeded once: nothing may be decided before."""
        while not self._health.synced:
            self._health.synced = await self._tried()
            if not self._health.synced:
                await asyncio.sleep(RETRY_SECONDS)

    async def run(self) -> None:
        """Compares now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            while not await self._tried():
                await asyncio.sleep(RETRY_SECONDS)

    async def _tried(self) -> bool:
        try:
            await self.sync()
        except ClusterError as error:
            logger.warning("comparison with the cluster failed: %s", error)
            return False
        return True

    async def sync(self) -> None:
        """Compares once. ClusterError when a list could not be had: what is known stays then."""
        for resource in watched(self._settings.launcher):
            for namespace in self._settings.namespaces or (None,):
                try:
                    changed = await self._compare(resource, namespace)
                except NotInstalledError:
                    continue  # KubeRay may come later; a job that needs it is told
                self._metrics.missed.labels(resource.plural).inc(len(changed))
                for key in changed:
                    self._changed(key)

    async def _compare(self, resource: Resource, namespace: str | None) -> set[Key]:
        listed: set[Key] = set()
        changed: set[Key] = set()
        version = 0
        async for items, version in self._cluster.list(resource, namespace):  # noqa: B007 - the last
            for raw in items:
                listed.add(job_key(raw))
                if (key := self._store.see(resource, raw)) is not None:
                    changed.add(key)
        return changed | self._store.prune(resource, listed, version, namespace)
