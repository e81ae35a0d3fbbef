"""Holds back what may wait: a status write that only says how far a job is, and its events. Pure."""

from collections.abc import Hashable
from dataclasses import replace
from datetime import datetime, timedelta

from darkroom_api.status import ConditionType, PersonalizationJobStatus, Reason
from darkroom_operator.decisions.actions import Decision
from darkroom_operator.decisions.conditions import RUNNING
from darkroom_operator.decisions.observed import Observed
from darkroom_operator.settings import Settings

_REPORTED = (Reason.STARTING, *RUNNING, Reason.MAKING_PROGRESS, Reason.PENDING)
"""Reasons that come with reports: they take turns while all goes well."""


def paced(decision: Decision, observed: Observed, now: datetime, settings: Settings) -> Decision:
    """A decision without its status, if that says nothing urgent and one was written lately."""
    status, written = decision.status, observed.written
    if status is None or written is None or _essence(status) != _essence(observed.job.status):
        return decision
    due = written + timedelta(seconds=settings.progress_seconds)
    if due <= now:
        return decision
    again = due - now
    if decision.again_after is not None:
        again = min(again, decision.again_after)
    return replace(decision, status=None, events=(), again_after=again)


def _essence(status: PersonalizationJobStatus) -> Hashable:
    """What of a status is told at once; the rest comes with the next write."""
    conditions = tuple(
        (condition.type, None if condition.reason in _REPORTED else condition.reason)
        for condition in status.conditions
        if condition.type is not ConditionType.CHECKPOINTED
        or condition.reason is Reason.CHECKPOINT_FAILED
    )
    ends = tuple((attempt.name, attempt.reason) for attempt in status.attempts)
    return (
        conditions,
        ends,
        status.observed_generation,
        status.start_time,
        status.completion_time,
        status.model,
        status.retries,
    )
