"""What a job on a cluster is like, in words: its conditions, and what comes next. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from darkroom.cluster.options import context_flag
from darkroom_api.job import DeletionPolicy, PersonalizationJob
from darkroom_api.status import (
    Attempt,
    ConditionStatus,
    ConditionType,
    PersonalizationJobStatus,
    Progress,
    Reason,
)

if TYPE_CHECKING:
    from darkroom.cluster.photo_store import PhotoStore

IDLE: Final = (Reason.PENDING, Reason.SUSPENDED, Reason.QUEUED)
"""Reasons of a job that has no attempt to stop."""

GOING: Final = (Reason.DELETING, Reason.CLEANUP_FAILED)
"""What an operator says of a job that is being deleted."""

ANSWER_S: Final = 30
"""Seconds in which an operator looks at a new job, or at a deletion, even while it is replaced."""

NO_STATUS: Final = PersonalizationJobStatus()


def status_of(job: PersonalizationJob) -> PersonalizationJobStatus:
    """The job's status; an empty one before the operator has looked at it."""
    return job.status or NO_STATUS


def word(job: PersonalizationJob) -> Reason:
    """STATUS of `kubectl get`; a deletion counts before the operator has seen it."""
    reason = status_of(job).word
    return Reason.DELETING if deleted_since(job) and reason not in GOING else reason


def message(job: PersonalizationJob) -> str:
    """Why the job is as it is; empty when nobody has said it."""
    found, since = status_of(job).summary, deleted_since(job)
    if since is not None and (found is None or found.reason not in GOING):
        return f"its deletion began at {since}"
    return found.message if found is not None else ""


def unsaved(job: PersonalizationJob) -> str | None:
    """Why a job that goes on could not write its newest checkpoint; None when it could."""
    found = status_of(job).condition(ConditionType.CHECKPOINTED)
    if is_over(job) or found is None or found.reason is not Reason.CHECKPOINT_FAILED:
        return None
    return found.message


def unheard(job: PersonalizationJob, now: datetime | None = None) -> float | None:
    """Seconds that no operator has looked at a new job, or at a deletion; None while they are few."""
    found = status_of(job).summary
    if found is not None and found.reason in GOING:
        return None
    begun = created(job) if found is None else deleted_since(job)
    seconds = age(begun, now) if begun is not None else 0.0
    return seconds if seconds > ANSWER_S else None


def is_over(job: PersonalizationJob) -> bool:
    """Whether the job has ended, well or badly."""
    return status_of(job).is_over


def succeeded(job: PersonalizationJob) -> bool:
    """Whether its model is published."""
    return status_of(job).succeeded


def newest_attempt(job: PersonalizationJob) -> Attempt | None:
    """The attempt that runs, or the last that ran."""
    return status_of(job).newest_attempt


def next_step(job: PersonalizationJob) -> str:
    """What the user does next."""
    since = deleted_since(job)
    if since is not None and word(job) is Reason.DELETING:
        return f"wait: it is being deleted since {since}"
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


def uid_of(job: PersonalizationJob) -> str:
    """Tells a job of the cluster from an earlier one of its name."""
    return str((job.metadata.model_extra or {})["uid"])


def after_suspend(job: PersonalizationJob) -> str:
    """What a suspension leads to."""
    name = job.metadata.name
    if word(job) in IDLE:
        return f"{name} does not start until: darkroom resume {name}"
    if (why := unsaved(job)) is not None:
        checkpoint = status_of(job).checkpoint
        step = checkpoint.step if checkpoint is not None else 0
        return (
            f"{name} stops, but its last checkpoint failed ({why}): if the next one does too,"
            f" darkroom resume {name} continues from step {step}"
        )
    return (
        f"{name} saves a checkpoint and stops (it is at step {step_of(job)});"
        f" to continue from there: darkroom resume {name}"
    )


def after_resume(job: PersonalizationJob) -> str:
    """What a resumption leads to."""
    name, checkpoint = job.metadata.name, status_of(job).checkpoint
    steps = job.spec.training.max_steps
    begin = (
        f"continues from step {checkpoint.step}" if checkpoint is not None else "begins at step 0"
    )
    return f"{name} {begin} of {steps} in a new attempt; to see it: darkroom watch {name}"


def after_cancel(job: PersonalizationJob) -> str:
    """What a deletion takes away, and what stays."""
    root = job.spec.output.uri
    if job.spec.output.deletion_policy is DeletionPolicy.DELETE:
        return f"what it wrote is removed from {root}"
    stop = "" if is_over(job) or word(job) in IDLE else "its pods save a checkpoint and stop; "
    return f"{stop}what it wrote to {root} stays"


def photos_after_cancel(
    job: PersonalizationJob, store: "PhotoStore", context: str | None = None
) -> str:
    """Whether the photos of the job's ConfigMap go with it."""
    # Another uid under the same name is an earlier job, which is gone.
    others = [name for name in store.owners.values() if name != job.metadata.name]
    if others:
        return f"ConfigMap {store.name} with its photos stays for {', '.join(others)}"
    if store.owners:
        return f"ConfigMap {store.name} with its photos goes too"
    return (
        f"ConfigMap {store.name} with its photos stays; to delete it:"
        f" kubectl delete configmap {store.name} --namespace {job.metadata.namespace}"
        f"{context_flag(context)}"
    )


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
        "checkpoint_failure": unsaved(job),
        "model": status.model.uri if status.model is not None else None,
    }
