"""Parses what the cluster sends into typed observations. Raw dicts end here."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.load import JobFileError, parse_job
from darkroom_api.names import (
    API_VERSION,
    ATTEMPT_LABEL,
    JOB_LABEL,
    KIND,
    RENDERED_ANNOTATION,
)
from darkroom_api.status import PersonalizationJobStatus
from darkroom_api.times import parse_time
from darkroom_operator.decisions.observed import Cleanup, CleanupState, Job, Key, Pod, Run, RunState

Raw = Mapping[str, Any]
"""An object as the API sends it."""

MESSAGE_LENGTH: Final = 4000
"""Characters of a run's message that are kept: the end of the driver's log, where its last words are."""

PARSED_SPECS: Final = 1024
"""Specs that stay parsed: each job at work is looked at again and again, and its spec is the same."""

_METADATA: Final = (
    "namespace",
    "name",
    "uid",
    "generation",
    "resourceVersion",
    "labels",
    "deletionTimestamp",
    "finalizers",
)
"""What is read of a job's metadata."""

_STATES: Final = {
    "Complete": RunState.FAILED,
    "Failed": RunState.FAILED,
    "ValidationFailed": RunState.REFUSED,
    "Suspending": RunState.QUEUED,
    "Suspended": RunState.QUEUED,
    "Running": RunState.RUNNING,
}
"""Ours for KubeRay's `jobDeploymentStatus`; anything else is on its way."""

_WAITING: Final = ("ContainerCreating", "PodInitializing", "")
"""Reasons of a waiting container that are no trouble."""


def job_key(raw: Raw) -> Key:
    """Namespace and name of a job."""
    return Key(raw["metadata"]["namespace"], raw["metadata"]["name"])


def owner_key(raw: Raw) -> Key | None:
    """The job that a RayJob or a pod belongs to, by its label."""
    name = raw["metadata"].get("labels", {}).get(JOB_LABEL)
    return Key(raw["metadata"]["namespace"], name) if name else None


def resource_version(raw: Raw) -> int:
    """How new an object is. Kubernetes promises that these numbers can be compared (KEP-5504)."""
    version = raw["metadata"].get("resourceVersion", "0")
    return int(version) if version.isdigit() else 0


class Kept(NamedTuple):
    """What of a job is kept in memory, as JSON: 10,000 parsed jobs would be too many."""

    metadata: bytes
    spec: bytes
    status: bytes


def compact(raw: Raw) -> Kept:
    """What `read_job` needs of a job."""
    metadata = raw["metadata"]
    return Kept(
        metadata=to_json({key: metadata[key] for key in _METADATA if key in metadata}),
        spec=to_json(raw.get("spec")),
        status=to_json(raw.get("status") or {}),
    )


def read_job(kept: Kept) -> Job:
    """A job out of what `compact` kept."""
    metadata = from_json(kept.metadata)
    key = Key(metadata["namespace"], metadata["name"])
    spec, problem = _read_spec(key, kept.spec)
    return Job(
        key=key,
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        resource_version=metadata.get("resourceVersion", ""),
        labels=metadata.get("labels", {}),
        deleting="deletionTimestamp" in metadata,
        finalizers=frozenset(metadata.get("finalizers", ())),
        spec=spec,
        problem=problem,
        status=_read_status(key.name, kept.status),
    )


def read_ray_job(raw: Raw) -> Run:
    """The run that a RayJob is."""
    metadata, status = raw["metadata"], raw.get("status", {})
    state = _run_state(raw)
    words = f"{status.get('reason', '')} {status.get('message', '')}".strip()
    return Run(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        owner_uid=owner_uid(raw),
        version=metadata.get("resourceVersion"),
        state=state,
        message="" if state is RunState.SUCCEEDED else words[-MESSAGE_LENGTH:],
        created=_created(metadata),
        cluster=status.get("rayClusterName") or None,
        trouble=_replica_failure(status),
        rendered=metadata.get("annotations", {}).get(RENDERED_ANNOTATION),
    )


def read_pod(raw: Raw) -> Pod:
    """What matters of a pod."""
    metadata = raw["metadata"]
    going = metadata.get("deletionTimestamp")
    return Pod(
        name=metadata["name"],
        attempt=metadata.get("labels", {}).get(ATTEMPT_LABEL, ""),
        going_until=parse_time(going) if going else None,
        waits=raw.get("status", {}).get("phase") in (None, "Pending"),
        trouble=next(_troubles(raw), None),
        evidence=next(_evidence(raw), None),
    )


def read_cleanup(raw: Raw) -> Cleanup:
    """How far a Job that removes a model is."""
    conditions = raw.get("status", {}).get("conditions", ())
    true = {one["type"]: one for one in conditions if one["status"] == "True"}
    name = raw["metadata"]["name"]
    if "Complete" in true:
        return Cleanup(name=name, state=CleanupState.SUCCEEDED)
    if "Failed" in true:
        return Cleanup(name=name, state=CleanupState.FAILED, message=_words(true["Failed"]))
    return Cleanup(name=name, state=CleanupState.RUNNING)


def read_warnings(events: Iterable[Raw]) -> list[str]:
    """What a list of core events warns of, oldest first."""
    warnings = [one for one in events if one.get("type") == "Warning"]
    return [_words(one) for one in sorted(warnings, key=_event_time)]


def is_terminating(namespace: Raw) -> bool:
    """Whether a namespace is being deleted."""
    return "deletionTimestamp" in namespace["metadata"]


@lru_cache(PARSED_SPECS)
def _read_spec(key: Key, spec: bytes) -> tuple[PersonalizationJobSpec | None, str | None]:
    document = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": from_json(spec),
    }
    try:
        return parse_job(document).spec, None
    except JobFileError as error:
        return None, "; ".join(str(problem) for problem in error.problems)


def _read_status(job_name: str, status: bytes) -> PersonalizationJobStatus:
    """The status as we wrote it; what somebody else made of it is built up anew from what is there.

    Attempts are named after the job: their names become paths of calls with our rights.
    """
    try:
        found = PersonalizationJobStatus.model_validate_json(status)
    except ValidationError:
        return PersonalizationJobStatus()
    ours = all(_is_attempt(attempt.name, job_name) for attempt in found.attempts)
    return found if ours else PersonalizationJobStatus()


def _is_attempt(name: str, job_name: str) -> bool:
    """Whether a name is `<job>-<number>`."""
    job, _, number = name.rpartition("-")
    plain = number.isascii() and number.isdigit() and not number.startswith("0")
    return job == job_name and plain and len(number) < 10


def _run_state(raw: Raw) -> RunState:
    status = raw.get("status", {})
    deployment, job = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    if "deletionTimestamp" in raw["metadata"]:
        return RunState.STOPPING
    state = _STATES.get(deployment, RunState.STARTING)
    # Complete also says that a job was stopped: success is both words together.
    if deployment == "Complete":
        ends = {"SUCCEEDED": RunState.SUCCEEDED, "STOPPED": RunState.STOPPED}
        return ends.get(job, state)
    if not state.is_over and raw.get("spec", {}).get("suspend"):
        return RunState.QUEUED
    if state is RunState.RUNNING and job != "RUNNING":
        return RunState.STARTING
    return state


def _replica_failure(status: Raw) -> str | None:
    """What KubeRay says when the API server refuses a pod (its RayCluster's `ReplicaFailure`).

    Its message is the reason again, a line break, and the API server's answer.
    """
    for condition in status.get("rayClusterStatus", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            said = condition.get("message", "").removeprefix(condition.get("reason", ""))
            return " ".join(said.split()) or condition.get("reason", "")
    return None


def _created(metadata: Raw) -> datetime | None:
    time = metadata.get("creationTimestamp")
    return parse_time(time) if time else None


def _words(said: Raw) -> str:
    """Reason and message of a condition or an event."""
    return f"{said.get('reason', '')}: {said.get('message', '')}"


def _event_time(event: Raw) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((time for time in times if time), "")


def owner_uid(raw: Raw) -> str | None:
    """Uid of the job that an object was made for."""
    owners = raw["metadata"].get("ownerReferences", ())
    return next((owner["uid"] for owner in owners if owner["kind"] == KIND), None)


def _troubles(raw: Raw) -> Iterator[str]:
    status = raw.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield condition.get("message", condition.get("reason", ""))
    for container in _containers(status):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason", "") not in _WAITING:
            yield f"{waiting['reason']}: {waiting.get('message', '')}"


def _evidence(raw: Raw) -> Iterator[str]:
    status = raw.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            yield _words(condition)
    if status.get("phase") == "Failed" and status.get("reason"):
        yield _words(status)
    for container in _containers(status):
        for state in (container.get("state", {}), container.get("lastState", {})):
            ended = state.get("terminated", {})
            if ended.get("exitCode", 0) != 0:
                code, reason = ended["exitCode"], ended.get("reason", "Error")
                yield f"container {container['name']} terminated: {reason}, exit code {code}"


def _containers(status: Raw) -> Iterator[Raw]:
    yield from status.get("initContainerStatuses", ())
    yield from status.get("containerStatuses", ())
