"""What this process knows of the cluster: fed by watches, by its own writes and by full comparisons.

Jobs are kept as compact JSON and parsed when they are looked at; runs and pods are a handful of facts.
An event that is older than what is known changes nothing, so the answers to our own writes can be
taken in at once, before the watch brings them.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from darkroom_api.report import ProgressReport
from darkroom_api.status import Reason
from darkroom_operator.cluster.resources import JOBS, PODS, RAY_JOBS, Resource
from darkroom_operator.decisions.actions import Action
from darkroom_operator.decisions.observed import Key, Observed, Pod, Refusal, Report, Run
from darkroom_operator.memory.reading import (
    Kept,
    Raw,
    compact,
    job_key,
    owner_key,
    read_job,
    read_pod,
    read_ray_job,
    resource_version,
)

T = TypeVar("T")

EVIDENCE_KEPT = 8
"""Traces of ended pods that are kept for an attempt."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    owner: Key
    version: int
    value: T


class _Table(Generic[T]):
    """Objects of one kind by namespace and name, and by the job that they belong to."""

    def __init__(self, read: Callable[[Raw], T], owner: Callable[[Raw], Key | None]) -> None:
        self._read, self._owner = read, owner
        self.entries: dict[Key, _Entry[T]] = {}
        self._owned: dict[Key, set[Key]] = {}

    def put(self, raw: Raw) -> Key | None:
        """Takes an object in; the job to look at, or None when this was known."""
        key, version, owner = job_key(raw), resource_version(raw), self._owner(raw)
        known = self.entries.get(key)
        if owner is None or (known is not None and known.version >= version > 0):
            return None
        self.entries[key] = _Entry(owner, version, self._read(raw))
        self._owned.setdefault(owner, set()).add(key)
        return owner

    def drop(self, key: Key, version: int) -> _Entry[T] | None:
        """Forgets an object that is gone since a version; None when a newer one is known."""
        known = self.entries.get(key)
        if known is None or known.version > version > 0:
            return None
        del self.entries[key]
        owned = self._owned[known.owner]
        owned.discard(key)
        if not owned:
            del self._owned[known.owner]
        return known

    def of(self, owner: Key) -> Iterator[T]:
        """What belongs to a job, by name."""
        for key in sorted(self._owned.get(owner, ())):
            yield self.entries[key].value


class Store:
    """The memory of the operator."""

    def __init__(self) -> None:
        self._jobs: _Table[Kept] = _Table(compact, job_key)
        self._runs: _Table[Run] = _Table(read_ray_job, owner_key)
        self._pods: _Table[Pod] = _Table(read_pod, owner_key)
        self._tables: dict[Resource, _Table[Kept] | _Table[Run] | _Table[Pod]] = {
            JOBS: self._jobs,
            RAY_JOBS: self._runs,
            PODS: self._pods,
        }
        self._words: dict[Key, str] = {}
        self._unfinished: set[Key] = set()
        self._deleting: set[Key] = set()
        self._operators: dict[Key, str] = {}
        self._operator_counts: dict[str, Counter[str]] = {}
        self._evidence: dict[Key, list[tuple[str, str]]] = {}
        self._reports: dict[Key, Report] = {}
        self._refusals: dict[Key, Refusal] = {}
        self._written: dict[Key, datetime] = {}

    # What comes from the cluster.

    def put(self, resource: Resource, raw: Raw) -> Key | None:
        """Takes an object in; the job to look at, or None when nothing is new."""
        key = self._tables[resource].put(raw)
        if key is not None and resource is PODS:
            self._keep_evidence(key, self._pods.entries[job_key(raw)].value)
        if key is not None and resource is JOBS:
            self._words[key] = _word(raw)
            _keep(self._unfinished, key, _is_unfinished(raw))
            _keep(self._deleting, key, _is_deleting(raw))
            self._keep_operator(key, raw.get("status", {}).get("operator"))
        return key

    def forget(self, resource: Resource, name: Key, version: int = 0) -> Key | None:
        """Forgets an object that is gone, since a version if that is known; the job to look at."""
        entry = self._tables[resource].drop(name, version)
        if entry is None:
            return None
        if resource is JOBS:
            self._unfinished.discard(name)
            self._deleting.discard(name)
            self._keep_operator(name, None)
            memories: tuple[dict[Key, object], ...] = (
                self._words,
                self._evidence,
                self._reports,
                self._refusals,
                self._written,
            )  # type: ignore[assignment]
            for memory in memories:
                memory.pop(name, None)
        return entry.owner

    def prune(
        self, resource: Resource, listed: set[Key], version: int, namespace: str | None
    ) -> set[Key]:
        """Forgets what a full list of a version does not have; the jobs for which that is news."""
        known = self._tables[resource].entries
        unlisted = [
            key for key in known if key not in listed and namespace in (None, key.namespace)
        ]
        owners = (self.forget(resource, key, version) for key in unlisted)
        return {owner for owner in owners if owner is not None}

    # What this process adds.

    def report(self, key: Key, attempt: str, body: ProgressReport, now: datetime) -> None:
        """Keeps the newest report, and when it was the first to say something new."""
        known = self._reports.get(key)
        same = known is not None and known.attempt == attempt and _place(known.body) == _place(body)
        advanced = known.advanced if known is not None and same else now
        self._reports[key] = Report(attempt=attempt, body=body, advanced=advanced)

    def refuse(self, key: Key, refusal: Refusal) -> None:
        """Remembers what the cluster refused last."""
        self._refusals[key] = refusal

    def accept(self, key: Key, action: Action) -> None:
        """Forgets that an action was refused: it has been carried out."""
        refusal = self._refusals.get(key)
        if refusal is not None and refusal.action == action:
            del self._refusals[key]

    def wrote(self, key: Key, now: datetime) -> None:
        """Remembers when a status was written."""
        self._written[key] = now

    # What is asked.

    def observe(self, key: Key) -> Observed | None:
        """All that is known of a job; None when there is no such job."""
        entry = self._jobs.entries.get(key)
        if entry is None:
            return None
        job = read_job(entry.value)
        newest = job.status.newest_attempt
        return Observed(
            job=job,
            runs=tuple(self._runs.of(key)),
            pods=tuple(self._pods.of(key)),
            evidence=tuple(
                text
                for attempt, text in self._evidence.get(key, ())
                if newest and attempt == newest.name
            ),
            report=self._reports.get(key),
            refusal=self._refusals.get(key),
            written=self._written.get(key),
        )

    def jobs(self) -> list[Key]:
        """All jobs, by name."""
        return sorted(self._jobs.entries)

    def unfinished(self, namespace: str | None) -> set[Key]:
        """Jobs, of a namespace or of all, for which something is still to be done."""
        return {key for key in self._unfinished if namespace in (None, key.namespace)}

    def is_deleting(self, key: Key) -> bool:
        """Whether a job is being deleted."""
        return key in self._deleting

    def operators(self, namespace: str) -> set[str]:
        """The operators that the jobs of a namespace name in their status."""
        return set(self._operator_counts.get(namespace, ()))

    def pod(self, key: Key) -> Pod | None:
        """A pod by its namespace and name."""
        entry = self._pods.entries.get(key)
        return entry.value if entry is not None else None

    def count(self) -> Counter[tuple[str, str]]:
        """Number of jobs by namespace and STATUS word."""
        return Counter((key.namespace, word) for key, word in self._words.items())

    def _keep_operator(self, key: Key, operator: str | None) -> None:
        """Counts the jobs of each operator, so that nobody has to go through all of them."""
        counts = self._operator_counts.setdefault(key.namespace, Counter())
        if (before := self._operators.pop(key, None)) is not None:
            counts[before] -= 1
            if not counts[before]:
                del counts[before]
        if operator is not None:
            self._operators[key] = operator
            counts[operator] += 1

    def _keep_evidence(self, key: Key, pod: Pod) -> None:
        """Pods are gone when their run's end is seen: what ended them is kept a while."""
        if pod.evidence is None:
            return
        kept = self._evidence.setdefault(key, [])
        if (pod.attempt, pod.evidence) not in kept:
            kept.append((pod.attempt, pod.evidence))
            del kept[:-EVIDENCE_KEPT]


def _place(body: ProgressReport) -> tuple[object, ...]:
    """What has to change for a run to count as moving."""
    return (body.phase, body.step, body.done)


def _word(raw: Raw) -> str:
    for condition in raw.get("status", {}).get("conditions", ()):
        if condition["type"] == "Succeeded":
            return str(condition["reason"])
    return Reason.PENDING.value


def _keep(keys: set[Key], key: Key, holds: bool) -> None:
    """Puts a key into a set, or takes it out."""
    (keys.add if holds else keys.discard)(key)


def _is_deleting(raw: Raw) -> bool:
    return "deletionTimestamp" in raw["metadata"]


def _is_unfinished(raw: Raw) -> bool:
    """Whether a job is not over, is being deleted, or goes when its time to live has passed."""
    if _is_deleting(raw):
        return True
    policy = (raw.get("spec") or {}).get("runPolicy") or {}
    if policy.get("ttlSecondsAfterFinished") is not None:
        return True
    conditions = raw.get("status", {}).get("conditions", ())
    return not any(one["type"] == "Succeeded" and one["status"] != "Unknown" for one in conditions)
