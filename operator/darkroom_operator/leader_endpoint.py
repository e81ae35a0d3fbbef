"""Routes progress reports to the leader, by the EndpointSlice of a Service without a selector.

A Service with a selector would also choose the standbys: half of the reports would be sent away.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.errors import ClusterError, FencedError, UnavailableError
from darkroom_operator.cluster.outages import Outage
from darkroom_operator.cluster.resources import ENDPOINT_SLICES
from darkroom_operator.launch.manifests.common import Manifest
from darkroom_operator.launch.manifests.leader import leader_slice
from darkroom_operator.settings import Settings

RETRY_SECONDS: Final = 2.0
"""Wait after a write that did not succeed: until it does, reports go to the leader before."""


class LeaderEndpoint:
    """Writes the slice when this process begins to lead, and again if it has come to differ."""

    def __init__(self, cluster: Cluster, settings: Settings, *, clock: Callable[[], float]) -> None:
        """`clock` is monotonic."""
        self._cluster, self._settings = cluster, settings
        self._wanted = leader_slice(settings) if settings.progress_service else None
        self._trouble = Outage(f"the Service {settings.progress_service}", clock)
        self._leads = self._written = False
        self._news = asyncio.Event()

    def lead(self, leads: bool) -> None:
        """Takes in whether this process leads."""
        self._leads, self._written = leads, False
        self._news.set()

    async def run(self) -> None:
        """Keeps the slice as it should be while this process leads, until cancelled."""
        while True:
            self._news.clear()
            wait = await self._keep(self._wanted) if self._leads and self._wanted else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    async def _keep(self, wanted: Manifest) -> float:
        """Writes the slice if it is not as wanted; answers when to look again."""
        try:
            if not self._written or not await self._is_there(wanted):
                await self._cluster.apply(wanted)
        except ClusterError as error:
            if not isinstance(error, FencedError | UnavailableError):
                self._trouble.note(str(error))
            return RETRY_SECONDS
        self._written = True
        self._trouble.note(None)
        return float(self._settings.resync_seconds)

    async def _is_there(self, wanted: Manifest) -> bool:
        metadata = wanted["metadata"]
        found = await self._cluster.get(ENDPOINT_SLICES, metadata["namespace"], metadata["name"])
        return found is not None and _means(found) == _means(wanted)


def _means(found: Manifest) -> tuple[object, ...]:
    """What of a slice decides where reports go."""
    endpoints = [
        (tuple(one["addresses"]), (one.get("conditions") or {}).get("ready"))
        for one in found.get("endpoints") or ()
    ]
    ports = [(one.get("name"), one.get("port")) for one in found.get("ports") or ()]
    labels = found["metadata"].get("labels", {})
    return (endpoints, ports, found.get("addressType"), labels.get("kubernetes.io/service-name"))
