"""Leader election by a Lease: one process writes, the others stand by and take over.

The rules of client-go, a little quicker: a holder that has not renewed for 13 s may be replaced, and a
holder that could not renew for 9 s stops by itself. Between the two lies the time for a write that was
under way. With the looks of a standby, another acts within 15 s of the death of a leader. Clocks of
different machines are never compared: what counts is how long the record has not changed by this
process's own clock.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

from darkroom_api.times import format_micro_time, utc_now
from darkroom_operator.cluster.errors import ClusterError, ConflictError, UnavailableError
from darkroom_operator.cluster.outages import QUIET_SECONDS, Outage

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 13
"""Time without a renewal after which others may take over."""

RENEW_DEADLINE_SECONDS: Final = 9
"""Time without a renewal after which the holder itself stops writing."""

RENEW_SECONDS: Final = 2.0
"""Time between renewals."""

TURN_SECONDS: Final = RENEW_DEADLINE_SECONDS / 2
"""Longest time for a look at the Lease and its renewal."""

WATCH_SECONDS: Final = 0.5
"""Time between looks of a standby: a released Lease is taken within it."""


def boot_seconds() -> float:
    """Seconds since the machine's start, with those in which it slept.

    The usual monotonic clock stands still while a machine is suspended: when it is resumed, a process on it
    would still believe in a lead that has long been another's.
    """
    # Elsewhere than on Linux the monotonic clock goes on meanwhile.
    return time.clock_gettime(
        time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
    )


class LeaseApi(Protocol):
    """Where the Lease is kept."""

    async def read(self) -> dict[str, Any] | None:
        """The Lease, or None when there is none."""

    async def create(self, lease: dict[str, Any]) -> dict[str, Any]:
        """Makes it; ConflictError when another was quicker."""

    async def replace(self, lease: dict[str, Any]) -> dict[str, Any]:
        """Replaces it; ConflictError when it has changed since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLease:
    """A Lease's record, and when it was first seen so."""

    version: str
    holder: str
    lease_seconds: float
    transitions: int

    created: str
    """When the Lease was made, by the apiserver's clock."""

    since: float
    """When it was first seen so, by the clock of who looks: clocks of machines are not compared."""

    @classmethod
    def of(cls, raw: dict[str, Any], before: Self | None, now: float) -> Self:
        """A Lease that is seen now; `before` is what was seen last, whose age counts on if it is the same."""
        spec, metadata = raw.get("spec", {}), raw["metadata"]
        seen = cls(
            version=metadata.get("resourceVersion", ""),
            holder=spec.get("holderIdentity") or "",
            lease_seconds=spec.get("leaseDurationSeconds", LEASE_SECONDS),
            transitions=spec.get("leaseTransitions", 0),
            created=metadata.get("creationTimestamp", ""),
            since=now,
        )
        same = before is not None and replace(seen, since=before.since) == before
        return before if before is not None and same else seen

    def is_held(self, now: float) -> bool:
        """Whether somebody holds it who renews, or has had no time to show that they don't."""
        return bool(self.holder) and now < self.since + self.lease_seconds


class Election:
    """Takes part in the election until told to leave."""

    def __init__(
        self,
        api: LeaseApi,
        *,
        name: str,
        namespace: str,
        identity: str,
        clock: Callable[[], float],
        on_change: Callable[[bool], None] = lambda leads: None,
        unanswered: Callable[[str], None] = lambda why: None,
    ) -> None:
        """`clock` is monotonic and counts while the machine sleeps.

        `on_change` is told when this process begins or ceases to lead, `unanswered` of looks at the Lease
        that take too long.
        """
        self._api, self._clock = api, clock
        self._on_change, self._unanswered = on_change, unanswered
        self._trouble = Outage(f"the Lease {namespace}/{name}", clock, quiet_seconds=QUIET_SECONDS)
        self._name, self._namespace, self._identity = name, namespace, identity
        self._seen: SeenLease | None = None
        self._renewed = float("-inf")
        self._leads = False

    @property
    def leads(self) -> bool:
        """Whether this process may act."""
        return self.write_seconds() > 0

    def write_seconds(self) -> float:
        """How long a write that begins now may take: it must end before others may lead."""
        since = self._clock() - self._renewed
        if not self._leads or since >= RENEW_DEADLINE_SECONDS:
            return 0.0
        return LEASE_SECONDS - since

    async def run(self) -> None:
        """Acquires, renews, and acquires again when it was lost; until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(RENEW_SECONDS if self._leads else WATCH_SECONDS)

    async def turn(self) -> None:
        """Looks once at the Lease, and takes or renews it where that is allowed."""
        begun = self._clock()
        try:
            async with asyncio.timeout(TURN_SECONDS):
                held = await self._acquire_or_renew()
        except (ClusterError, TimeoutError) as error:
            self._tell(error)
            # Whoever leads goes on until the deadline: the apiserver may be back by then.
            self._set(self._leads and begun < self._renewed + RENEW_DEADLINE_SECONDS)
            return
        self._trouble.note(None)
        if held:
            self._renewed = begun
        self._set(held)

    async def release(self) -> None:
        """Lets go, so that another can lead at once."""
        if not self._leads or self._seen is None:
            return
        self._set(False)
        try:
            try:
                await self._let_go(self._seen)
            except ConflictError:  # a renewal that was under way came first
                raw = await self._api.read()
                if raw is not None and (seen := self._look(raw)).holder == self._identity:
                    await self._let_go(seen)
        except ClusterError as error:
            logger.warning("lease: not released, it runs out by itself: %s", error)

    def _tell(self, error: ClusterError | TimeoutError) -> None:
        """An apiserver that does not answer is told once for all who call it."""
        if isinstance(error, TimeoutError):
            self._unanswered(f"the Lease is not answered in {TURN_SECONDS:.1f} s")
        elif not isinstance(error, UnavailableError):
            self._trouble.note(str(error))

    async def _let_go(self, seen: SeenLease) -> None:
        await self._api.replace(self._record(holder="", seconds=1, transitions=seen.transitions))

    async def _acquire_or_renew(self) -> bool:
        raw = await self._api.read()
        if raw is None:
            return await self._send(self._api.create, self._record(transitions=0, version=None))
        seen = self._look(raw)
        if seen.holder == self._identity:
            return await self._send(self._api.replace, self._record(transitions=seen.transitions))
        if seen.is_held(self._clock()):
            return False
        return await self._send(self._api.replace, self._record(transitions=seen.transitions + 1))

    async def _send(self, send: Callable[[dict[str, Any]], Any], record: dict[str, Any]) -> bool:
        try:
            self._look(await send(record))
        except ConflictError:
            return False
        return True

    def _look(self, raw: dict[str, Any]) -> SeenLease:
        """Takes a record in; its age counts from when it was first seen."""
        self._seen = SeenLease.of(raw, self._seen, self._clock())
        return self._seen

    def _record(
        self,
        *,
        transitions: int,
        holder: str | None = None,
        seconds: int = LEASE_SECONDS,
        version: str | None = "",
    ) -> dict[str, Any]:
        now = format_micro_time(utc_now())
        metadata = {"name": self._name, "namespace": self._namespace}
        if version is not None and self._seen is not None:
            metadata["resourceVersion"] = self._seen.version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity if holder is None else holder,
                "leaseDurationSeconds": seconds,
                "leaseTransitions": transitions,
                "acquireTime": now,
                "renewTime": now,
            },
        }

    def _set(self, leads: bool) -> None:
        if leads != self._leads:
            self._leads = leads
            logger.info("lease: %s", "leading" if leads else "not leading")
            self._on_change(leads)
