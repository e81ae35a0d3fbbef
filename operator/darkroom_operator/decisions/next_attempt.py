"""Decides about a job without an open attempt: may the next one begin? Pure."""

from datetime import datetime, timedelta

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.status import Attempt, PersonalizationJobStatus, Reason
from darkroom_operator.decisions import attempts
from darkroom_operator.decisions.acceptance import lacking
from darkroom_operator.decisions.conditions import Situation
from darkroom_operator.decisions.draft import Context, Draft, earliest, over, remains, stops
from darkroom_operator.decisions.failures import Finding
from darkroom_operator.decisions.open_attempt import with_open_attempt


def without_open_attempt(
    context: Context,
    spec: PersonalizationJobSpec,
    status: PersonalizationJobStatus,
    ended: Finding | None = None,
) -> Draft:
    """Waits, gives up or opens the next attempt; `ended` is why the last one was closed just now."""
    observed, settings = context.observed, context.settings
    last, (left, gone) = status.newest_attempt, remains(context)
    if observed.terminating:
        text = "its namespace is being deleted: no attempt begins"
        situation = Situation(reason=Reason.DELETING, message=text)
        return Draft(status, situation, stops(observed), gone)
    if spec.run_policy.suspend:
        situation = _suspended(status, left)
        return Draft(status, situation, stops(observed), gone)
    if last is not None and attempts.exhausted(status, spec.run_policy.backoff_limit, settings):
        why = _end_of(context, last, ended)
        finding = Finding(
            Reason.BACKOFF_LIMIT_EXCEEDED, f"too many attempts failed; the last: {why}"
        )
        return Draft(status, over(finding), stops(observed))
    waiting = _first(context, left) if last is None else _next(context, status, last, left, ended)
    if waiting is not None:
        situation, again = waiting
        return Draft(status, situation, stops(observed), earliest(context.now, gone, again))
    name = attempts.next_name(observed.job.key.name, status)
    status = attempts.opened(status, name, spec.scale, context.now)
    return with_open_attempt(context, status.attempts[-1], status)


def _suspended(status: PersonalizationJobStatus, left: str | None) -> Situation:
    if left is not None:
        return Situation(reason=Reason.SUSPENDING, message=f"waits for {left} to save and go")
    step = status.checkpoint.step if status.checkpoint is not None else 0
    text = f"continues from step {step} when runPolicy.suspend is false"
    return Situation(reason=Reason.SUSPENDED, message=text)


def _first(context: Context, left: str | None) -> tuple[Situation, datetime | None] | None:
    """What the first attempt waits for; None when it may begin."""
    if left is not None:
        text = f"waits for {left} of an earlier job to go"
        return Situation(reason=Reason.PENDING, message=text), None
    if (lack := lacking(context.observed)) is not None:
        again = context.now + timedelta(seconds=context.settings.refusal_seconds)
        return Situation(reason=Reason.PENDING, message=lack.message, objection=lack), again
    return None


def _next(
    context: Context,
    status: PersonalizationJobStatus,
    last: Attempt,
    left: str | None,
    ended: Finding | None,
) -> tuple[Situation, datetime | None] | None:
    """What a further attempt waits for; None when it may begin."""
    start = attempts.next_start(status, context.settings)
    if left is None and (start is None or start <= context.now):
        return None
    reason = Reason.PREEMPTED if last.reason is Reason.PREEMPTED else Reason.RETRYING
    return Situation(reason=reason, message=_end_of(context, last, ended)), start


def _end_of(context: Context, last: Attempt, ended: Finding | None) -> str:
    """Why the last attempt ended; told in full when it ends, and kept."""
    text = f"attempt {last.name} ended at step {last.end_step}: {last.reason}"
    if ended is not None:
        return f"{text}: {ended.message}"
    before = context.observed.job.status.summary
    return before.message if before is not None and before.message.startswith(text) else text
