"""Decides about jobs that are over or being deleted: time to live, finalizer, the model's removal. Pure."""

from datetime import datetime, timedelta
from typing import Final

from darkroom_api.job import DeletionPolicy
from darkroom_api.names import FINALIZER
from darkroom_operator import conditions, reports
from darkroom_operator.actions import Action, Decision, DeleteJob, RemoveModel, SetFinalizer
from darkroom_operator.course import Moment, remains, stops
from darkroom_operator.observed import CleanupState, Job, Observed
from darkroom_operator.times import parse_time

CLEANUP_POLL: Final = timedelta(seconds=5)
"""How often the removal of a model is looked after: it takes seconds, and nobody watches Jobs."""


def after_the_end(observed: Observed, now: datetime) -> Decision:
    """What is left to do for a job that is over: nothing, until its time to live has passed.

    Its last report may come after the end of its run; a new generation is acknowledged.
    """
    job = observed.job
    status = reports.absorbed(job.status, observed.report)
    status = conditions.restamped(status, job.generation)
    expiry = _expiry(job)
    if expiry is not None and expiry <= now:
        return Decision(actions=(DeleteJob(),))
    return Decision(
        status=status if status != job.status else None,
        actions=(*stops(observed), *finalizer_actions(observed)),
        again_after=expiry - now if expiry is not None else None,
    )


def deletion(moment: Moment) -> Decision:
    """What a deleted job needs: its children go by themselves, its model only when that was asked for."""
    observed = moment.observed
    job = observed.job
    if FINALIZER not in job.finalizers:
        return Decision()
    if not _removes_model(job) or observed.cleanup is CleanupState.SUCCEEDED:
        return Decision(actions=(SetFinalizer(present=False),))
    left, gone = remains(moment)
    if left is not None:
        return Decision(
            actions=stops(observed), again_after=gone - moment.now if gone is not None else None
        )
    start = (RemoveModel(),) if observed.cleanup is CleanupState.ABSENT else ()
    return Decision(actions=start, again_after=CLEANUP_POLL)


def finalizer_actions(observed: Observed) -> tuple[Action, ...]:
    """Puts the finalizer where the deletion policy wants it, and takes it away elsewhere."""
    job = observed.job
    wanted = _removes_model(job)
    return (SetFinalizer(wanted),) if wanted != (FINALIZER in job.finalizers) else ()


def _removes_model(job: Job) -> bool:
    return job.spec is not None and job.spec.output.deletion_policy is DeletionPolicy.DELETE


def time_to_live(job: Job) -> timedelta | None:
    """How long a job stays after its end; None when it stays for good."""
    seconds = job.spec.run_policy.ttl_seconds_after_finished if job.spec is not None else None
    return timedelta(seconds=seconds) if seconds is not None else None


def _expiry(job: Job) -> datetime | None:
    stays = time_to_live(job)
    if stays is None or job.status.completion_time is None:
        return None
    return parse_time(job.status.completion_time) + stays
