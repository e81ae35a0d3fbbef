"""Compares the memory with the cluster in full: finds what watches missed, forgets what is gone.

kopf lists again after a broken watch but does not tell what has disappeared in between, and a stream can
be silent although its connection stands. So this is done now and then, and before anything else. Jobs that
are not over are then looked at in any case: whatever kept one from that, it is not for long.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.errors import (
    ClusterError,
    NotInstalledError,
    RefusedError,
    UnavailableError,
)
from darkroom_operator.cluster.outages import Outages
from darkroom_operator.cluster.resources import JOBS, Scope, watched
from darkroom_operator.decisions.observed import Key
from darkroom_operator.health import Health
from darkroom_operator.memory.reading import job_key
from darkroom_operator.memory.store import Store
from darkroom_operator.metrics import Metrics
from darkroom_operator.settings import Settings

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0
"""Wait after a list that did not succeed."""

REFUSED_SECONDS: Final = 15.0
"""Wait after a list that was refused: it takes somebody who makes the namespace or its Role again."""


class RestoredError(Exception):
    """The cluster is older than it was: what is known of it is not what it has."""


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
        refusals: Outages,
        changed: Callable[[Key], None],
    ) -> None:
        """`changed` is told each job that is to be looked at, `refusals` each list that is refused."""
        self._cluster, self._store, self._health = cluster, store, health
        self._metrics, self._settings, self._changed = metrics, settings, changed
        self._refusals = refusals
        self._scopes = tuple(
            Scope(resource, namespace)
            for resource in watched(settings.launcher)
            for namespace in settings.namespaces or (None,)
        )
        self._due = dict.fromkeys(self._scopes, float("-inf"))
        self._versions: dict[Scope, int] = {}
        self._listed: set[Scope] = set()
        self._refused: set[Scope] = set()

    async def first(self) -> None:
        """Compares until everything that may be listed was: nothing may be decided before."""
        while not await self.sync():
            await asyncio.sleep(RETRY_SECONDS)
        self._health.synced = True

    async def run(self) -> None:
        """Compares now and then, until cancelled. RestoredError when that can't be done."""
        while True:
            wait = min(self._due.values()) - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, wait))
            now = asyncio.get_running_loop().time()
            for scope in self._scopes:
                if self._due[scope] <= now:
                    await self._try(scope)

    async def sync(self) -> bool:
        """Compares everything; whether it could be had, but for namespaces that are refused."""
        return all([await self._try(scope) for scope in self._scopes])

    def knows(self, namespace: str | None) -> bool:
        """Whether all that belongs to a namespace's jobs was listed once: half of it looks like a loss."""
        wanted = (scope for scope in self._scopes if scope.namespace in (None, namespace))
        return all(scope in self._listed for scope in wanted)

    async def _try(self, scope: Scope) -> bool:
        """Compares one list; no other is kept from it by one that can't be had."""
        done, wait = True, float(self._settings.resync_seconds)
        try:
            changed = await self._compare(scope)
        except NotInstalledError:
            self._take_in(scope, set())  # KubeRay may come later; a job that needs it is told
        except RefusedError as error:
            self._refusals.note(str(scope), str(error))
            self._refused.add(scope)
            done, wait = scope.namespace is not None, REFUSED_SECONDS
        except ClusterError as error:
            level = logging.DEBUG if isinstance(error, UnavailableError) else logging.WARNING
            logger.log(level, "%s can't be listed: %s", scope, error)
            done, wait = False, RETRY_SECONDS
        else:
            self._refusals.note(str(scope), None)
            self._take_in(scope, changed)
        self._due[scope] = asyncio.get_running_loop().time() + wait
        return done

    async def _compare(self, scope: Scope) -> set[Key]:
        listed: set[Key] = set()
        changed: set[Key] = set()
        version = 0
        async for items, version in self._cluster.list(scope.resource, scope.namespace):
            self._refuse_older(scope, version)
            for raw in items:
                listed.add(job_key(raw))
                if (key := self._store.put(scope.resource, raw)) is not None:
                    changed.add(key)
        self._versions[scope] = version
        return changed | self._store.prune(scope.resource, listed, version, scope.namespace)

    def _refuse_older(self, scope: Scope, version: int) -> None:
        """A version counts the writes to a cluster: it only falls when a backup was restored.

        What is known is newer than all that comes then, and watches go on from where the cluster is
        not yet. A new process has neither.
        """
        if version < self._versions.get(scope, 0):
            raise RestoredError(
                f"the cluster was restored from a backup: {scope} had version"
                f" {self._versions[scope]} and now have {version}"
            )

    def _take_in(self, scope: Scope, changed: set[Key]) -> None:
        """Has jobs looked at after a list."""
        first = scope not in self._listed
        if not first and scope not in self._refused:
            self._metrics.missed.labels(scope.resource.plural).inc(len(changed))
        self._listed.add(scope)
        self._refused.discard(scope)
        if scope.resource is JOBS:
            changed = changed | self._store.unfinished(scope.namespace)
        if first and self.knows(scope.namespace):
            changed = changed | {
                key for key in self._store.jobs() if scope.namespace in (None, key.namespace)
            }
        for key in changed:
            self._changed(key)
