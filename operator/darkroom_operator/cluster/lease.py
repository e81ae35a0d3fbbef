"""Reads and writes the election's Lease."""

from typing import Any

from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.resources import LEASES
from darkroom_operator.settings import Settings


class ClusterLease:
    """The Lease of this operator; its calls are not fenced, since they are what the fence rests on."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster, self._settings = cluster, settings

    async def read(self) -> dict[str, Any] | None:
        """The Lease, or None when there is none."""
        return await self._cluster.get(
            LEASES, self._settings.pod_namespace, self._settings.lease_name
        )

    async def create(self, lease: dict[str, Any]) -> dict[str, Any]:
        """Makes it."""
        namespace = self._settings.pod_namespace
        return await self._cluster.create(LEASES, namespace, lease, fenced=False)

    async def replace(self, lease: dict[str, Any]) -> dict[str, Any]:
        """Replaces it."""
        return await self._cluster.replace(LEASES, lease)
