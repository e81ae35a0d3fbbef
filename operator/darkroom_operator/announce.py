"""Which changes of a status are worth an event. Pure.

The way of a job that goes well is in its conditions; events tell what they can't: that something
happened which is not so any more. A job that simply succeeds has none.
"""

from typing import Final

from darkroom_api.status import ConditionStatus, ConditionType, PersonalizationJobStatus, Reason
from darkroom_operator import conditions
from darkroom_operator.actions import Event, EventType

_TOLD: Final = {
    Reason.RETRYING: EventType.WARNING,
    Reason.PREEMPTED: EventType.WARNING,
    Reason.UNSCHEDULABLE: EventType.WARNING,
    Reason.IMAGE_PULL_FAILED: EventType.WARNING,
    Reason.VOLUME_MISSING: EventType.WARNING,
    Reason.LAUNCH_REFUSED: EventType.WARNING,
    Reason.KUBERAY_MISSING: EventType.WARNING,
    Reason.SUSPENDED: EventType.NORMAL,
}
"""Reasons of a job on its way that an event tells of."""


def events_between(
    old: PersonalizationJobStatus, new: PersonalizationJobStatus
) -> tuple[Event, ...]:
    """Events for a change from one status to the next; none when it says the same."""
    summary = conditions.find(new, ConditionType.SUCCEEDED)
    if summary is None or summary.reason is conditions.summary(old):
        return ()
    if summary.status is ConditionStatus.FALSE:
        return (
            Event(EventType.WARNING, summary.reason, _with_hint(summary.reason, summary.message)),
        )
    kind = _TOLD.get(summary.reason)
    return (Event(kind, summary.reason, summary.message),) if kind is not None else ()


def _with_hint(reason: Reason, message: str) -> str:
    return f"{message}; {reason.hint}"
