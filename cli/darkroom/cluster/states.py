"""What a job on a cluster is like, in words: its conditions, and what comes next. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from darkroom_api.job import DeletionPolicy, PersonalizationJob
from darkroom_api.status import (
    Attempt,
    Condition,
    ConditionStatus,
    ConditionType,
    PersonalizationJobStatus,
    Progress,
    Reason,
)

IDLE: Final = (Reason.PENDING, Reason.SUSPENDED)
"""Reasons of a job that has no attempt to stop."""

NO_STATUS: Final = PersonalizationJobStatus()


def status_of(job: PersonalizationJob) -> PersonalizationJobStatus:
    """The job's status; an empty one before the operator has looked at it."""
    return job.status or NO_STATUS


def outcome(job: PersonalizationJob) -> Condition | None:
    """The condition that sums up."""
    conditions = status_of(job).conditions
    return next((one for one in conditions if one.type is ConditionType.SUCCEEDED), None)


def word(job: PersonalizationJob) -> Reason:
    """STATUS of `kubectl get`."""
    found = outcome(job)
    return found.reason if found is not None else Reason.PENDING


def is_over(job: PersonalizationJob) -> bool:
    """Whether the job has ended, well or badly."""
    found = outcome(job)
    return found is not None and found.status is not ConditionStatus.UNKNOWN


def succeeded(job: PersonalizationJob) -> bool:
    """Whether its model is published."""
    found = outcome(job)
    return found is not None and found.status is ConditionStatus.TRUE


def newest_attempt(job: PersonalizationJob) -> Attempt | None:
    """The attempt that runs, or the last that ran."""
    attempts = status_of(job).attempts
    return attempts[-1] if attempts else None


def next_step(job: PersonalizationJob) -> str:
    """What the user does next."""
    return word(job).hint


def step_of(job: PersonalizationJob) -> str:
    """`120 of 300 (40 %)`."""
    progress = status_of(job).progress
    if progress is None:
        return f"0 of {job.spec.training.max_steps}"
    return f"{progress.step} of {progress.max_steps} ({progress.percent} %)"


def metric(progress: Progress | None, name: str) -> str:
    """The latest value of a figure; empty before there is one."""
    metrics = progress.metrics if progress is not None else ()
    return next((one.value for one in metrics if one.name == name), "")


def age(time: str, now: datetime | None = None) -> float:
    """Seconds since a time of Kubernetes."""
    return max(0.0, ((now or datetime.now(UTC)) - datetime.fromisoformat(time)).total_seconds())


def created(job: PersonalizationJob) -> str | None:
    """When the job was made."""
    extra = job.metadata.model_extra or {}
    return extra.get("creationTimestamp")


def deleted_since(job: PersonalizationJob) -> str | None:
    """When its deletion began; None: it isn't being deleted."""
    extra = job.metadata.model_extra or {}
    return extra.get("deletionTimestamp")


def after_suspend(job: PersonalizationJob) -> str:
    """What a suspension leads to."""
    name = job.metadata.name
    if word(job) in IDLE:
        return f"{name} does not start until: darkroom resume {name}"
    return (
        f"{name} saves a checkpoint and stops (it is at step {step_of(job)});"
        f" to go on from there: darkroom resume {name}"
    )


def after_resume(job: PersonalizationJob) -> str:
    """What a resumption leads to."""
    name, checkpoint = job.metadata.name, status_of(job).checkpoint
    steps = job.spec.training.max_steps
    begin = f"goes on from step {checkpoint.step}" if checkpoint is not None else "begins at step 0"
    return f"{name} {begin} of {steps} in a new attempt; to see it: darkroom watch {name}"


def after_cancel(job: PersonalizationJob) -> str:
    """What a deletion takes away, and what stays."""
    root = job.spec.output.uri
    if job.spec.output.deletion_policy is DeletionPolicy.DELETE:
        return f"what it wrote is removed from {root}"
    stop = "" if is_over(job) or word(job) in IDLE else "its pods save a checkpoint and stop; "
    return f"{stop}what it wrote to {root} stays"


def conditions(job: PersonalizationJob) -> Iterator[tuple[str, str]]:
    """Each condition in words: what it is about, and how it stands."""
    answers = {
        ConditionStatus.TRUE: "yes",
        ConditionStatus.FALSE: "no",
        ConditionStatus.UNKNOWN: "not yet known",
    }
    for one in status_of(job).conditions:
        yield one.type.value, f"{answers[one.status]}: {one.message} ({one.reason.value})"


def snapshot(job: PersonalizationJob) -> dict[str, Any]:
    """A job on one line, for a program."""
    status, attempt = status_of(job), newest_attempt(job)
    progress = status.progress
    return {
        "namespace": job.metadata.namespace,
        "name": job.metadata.name,
        "status": word(job).value,
        "over": is_over(job),
        "succeeded": succeeded(job),
        "step": progress.step if progress is not None else 0,
        "max_steps": job.spec.training.max_steps,
        "percent": progress.percent if progress is not None else 0,
        "eta_seconds": progress.eta_seconds if progress is not None else None,
        "metrics": {one.name: float(one.value) for one in progress.metrics} if progress else {},
        "attempt": attempt.name if attempt is not None else None,
        "model": status.model.uri if status.model is not None else None,
    }
