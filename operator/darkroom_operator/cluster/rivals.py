"""Other operators: which of them are alive, and so keep this one away from their jobs.

A job is its operator's that wrote the first status: `status.operator` names that operator's Lease. Each
status is written on the version that was decided about, so of two operators that see a new job one is
refused, and finds the other's name. Where two watch the same namespace, the one whose Lease is older
works, and the other stands by for what nobody has begun.
"""

import logging
from collections.abc import Callable
from typing import Final

from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.election import LEASE_SECONDS, SeenLease
from darkroom_operator.cluster.errors import RefusedError
from darkroom_operator.cluster.resources import LEASES

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
"""Age of what is known of a Lease before it is read again."""

TOLD_SECONDS: Final = 300.0
"""Time between two log lines about the same thing."""


class Rivals:
    """Reads the Leases of other operators."""

    def __init__(self, cluster: Cluster, identity: str, clock: Callable[[], float]) -> None:
        """`identity` is this operator's own, `<namespace>/<lease>`; `clock` is monotonic."""
        self._cluster, self._identity, self._clock = cluster, identity, clock
        self._seen: dict[str, SeenLease | None] = {}
        self._looked: dict[str, float] = {}
        self._told: dict[str, float] = {}

    async def owner(self, namespace: str, operator: str | None, others: set[str]) -> str | None:
        """The operator that a job is left to; None when it is this one's.

        `operator` is what the job's status names, `others` what other jobs of its namespace name.
        """
        if operator == self._identity:
            return None
        if operator is not None:
            found = operator if await self._is_alive(operator) else None
        else:
            elders = [one for one in sorted(others - {self._identity}) if await self._is_elder(one)]
            found = elders[0] if elders else None
        if found is not None:
            self._tell(
                f"{namespace} {found}",
                f"operator {found} runs jobs of namespace {namespace}: this one stands by there;"
                " let only one of them watch it",
            )
        return found

    async def _is_alive(self, operator: str) -> bool:
        seen = await self._look(operator)
        return seen is not None and seen.is_held(self._looked[operator])

    async def _is_elder(self, operator: str) -> bool:
        """Whether another operator is alive and its Lease is older than this one's."""
        if not await self._is_alive(operator):
            return False
        theirs, ours = await self._look(operator), await self._look(self._identity)
        if theirs is None or ours is None:
            return theirs is not None
        return (theirs.created, operator) < (ours.created, self._identity)

    async def _look(self, operator: str) -> SeenLease | None:
        """Its Lease, from a moment ago; None when there is none."""
        now = self._clock()
        if now >= self._looked.get(operator, float("-inf")) + LOOK_SECONDS:
            self._seen[operator] = await self._read(operator, now)
            self._looked[operator] = now
        return self._seen[operator]

    async def _read(self, operator: str, now: float) -> SeenLease | None:
        namespace, _, name = operator.partition("/")
        try:
            raw = await self._cluster.get(LEASES, namespace, name)
        except RefusedError as error:
            # Whether it is alive can't be known: two that act would be worse than one that waits.
            self._tell(operator, f"the Lease of operator {operator} can't be read: {error}")
            return SeenLease(
                version="",
                holder="unknown",
                lease_seconds=LEASE_SECONDS,
                transitions=0,
                created="",
                since=now,
            )
        return None if raw is None else SeenLease.of(raw, self._seen.get(operator), now)

    def _tell(self, about: str, text: str) -> None:
        now = self._clock()
        if now >= self._told.get(about, float("-inf")) + TOLD_SECONDS:
            self._told[about] = now
            logger.warning("%s", text)
