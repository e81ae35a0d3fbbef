"""Decides about jobs that are over or being deleted: time to live, finalizer, the model's removal. Pure."""

from datetime import datetime, timedelta
from typing import Final

from darkroom_api.names import FINALIZER
from darkroom_api.status import Reason
from darkroom_api.times import parse_time
from darkroom_api.words import counted
from darkroom_operator.decisions import conditions, progress
from darkroom_operator.decisions.actions import (
    Action,
    Decision,
    DeleteJob,
    RemoveModel,
    SetFinalizer,
)
from darkroom_operator.decisions.draft import Context, remains, stops
from darkroom_operator.decisions.events import events_between
from darkroom_operator.decisions.observed import CleanupState, Job, Observed, RefusalKind
from darkroom_operator.decisions.refusals import refusal_of, words_of

CLEANUP_POLL: Final = timedelta(seconds=5)
"""How often the removal of a model is monitored: it takes seconds, and nobody watches Jobs."""


def after_the_end(observed: Observed, now: datetime) -> Decision:
    """What is left to do for a job that is over: nothing, until its time to live has passed.

    Its last report may come after the end of its run; a new generation is acknowledged.
    """
    job = observed.job
    status = progress.absorbed(job.status, observed.report)
    status = conditions.restamped(status, job.generation)
    expiry = _expiry(job)
    if expiry is not None and expiry <= now:
        return Decision(actions=(DeleteJob(),))
    return Decision(
        status=status if status != job.status else None,
        actions=(*stops(observed), *finalizer_actions(observed)),
        again_after=expiry - now if expiry is not None else None,
    )


def deletion(context: Context) -> Decision:
    """What a deleted job needs: its children go by themselves, its model only when that was asked for."""
    observed, now = context.observed, context.now
    job = observed.job
    if FINALIZER not in job.finalizers:
        others = ", ".join(sorted(job.finalizers))
        return _deleting(context, f"it goes when {others} lets it go") if others else Decision()
    cleaned = any(one.state is CleanupState.SUCCEEDED for one in observed.cleanups)
    if cleaned or not job.removes_model or _is_terminating(observed):
        release = SetFinalizer(present=False)
        refused = refusal_of(observed, (release,)) is not None
        return _deleting(context, "it goes", release) if refused else Decision(actions=(release,))
    left, gone = remains(context)
    if left is not None:
        again = gone - now if gone is not None else None
        return _deleting(context, f"waits for {left} to go", *stops(observed), again=again)
    return _cleanup(context)


def _cleanup(context: Context) -> Decision:
    """Removes the model, in as many tries as the administrator allows."""
    cleanups, limit = context.observed.cleanups, context.settings.cleanup_attempts
    last = cleanups[-1] if cleanups else None
    if last is not None and last.state is CleanupState.RUNNING:
        return _deleting(context, f"Job {last.name} removes its model", again=CLEANUP_POLL)
    if last is not None and len(cleanups) >= limit:
        text = (
            f"its model was not removed by {counted(len(cleanups), 'Job')}; the last, {last.name}:"
            f" {last.message}; to keep the model, set output.deletionPolicy to Retain"
        )
        return _deleting(context, text, reason=Reason.CLEANUP_FAILED)
    number = len(cleanups) + 1
    text = f"its model is being removed, try {number} of {limit}"
    return _deleting(context, text, RemoveModel(number), again=CLEANUP_POLL)


def _deleting(
    context: Context,
    text: str,
    *actions: Action,
    reason: Reason = Reason.DELETING,
    again: timedelta | None = None,
) -> Decision:
    """A decision that says how far the deletion is; whether the job had succeeded stays as it was."""
    observed, before = context.observed, context.observed.job.status
    if (refusal := refusal_of(observed, actions)) is not None:
        reason, text = Reason.CLEANUP_FAILED, words_of(refusal)
    generation = observed.job.generation
    status = conditions.with_summary(before, reason, text, generation, context.now)
    status = conditions.claimed(status, before, context.settings.identity)
    return Decision(
        status=status if status != before else None,
        actions=actions,
        events=events_between(before, status),
        again_after=again,
    )


def _is_terminating(observed: Observed) -> bool:
    """Whether the namespace goes: no Job can be made in it, and nothing may hold it back."""
    refusal = observed.refusal
    refused = refusal is not None and refusal.kind is RefusalKind.TERMINATING
    return observed.terminating or refused


def finalizer_actions(observed: Observed) -> tuple[Action, ...]:
    """Puts the finalizer where the deletion policy wants it, and takes it away elsewhere."""
    job = observed.job
    wanted = job.removes_model
    return (SetFinalizer(wanted),) if wanted != (FINALIZER in job.finalizers) else ()


def time_to_live(job: Job) -> timedelta | None:
    """How long a job stays after its end; None when it stays for good."""
    seconds = job.spec.run_policy.ttl_seconds_after_finished if job.spec is not None else None
    return timedelta(seconds=seconds) if seconds is not None else None


def _expiry(job: Job) -> datetime | None:
    stays = time_to_live(job)
    if stays is None or job.status.completion_time is None:
        return None
    return parse_time(job.status.completion_time) + stays
