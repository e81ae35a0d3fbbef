"""Which changes of a status are worth an event. Pure.

The way of a job that goes well is in its conditions; events tell what they can't: that something
happened which is not so any more. A job that simply succeeds has none.
"""

from collections.abc import Iterator
from typing import Final

from darkroom_api.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    PersonalizationJobStatus,
    Reason,
)
from darkroom_operator.decisions.actions import Event, EventType

_TOLD: Final = {
    Reason.RETRYING: EventType.WARNING,
    Reason.PREEMPTED: EventType.WARNING,
    Reason.UNSCHEDULABLE: EventType.WARNING,
    Reason.IMAGE_PULL_FAILED: EventType.WARNING,
    Reason.VOLUME_MISSING: EventType.WARNING,
    Reason.LAUNCH_REFUSED: EventType.WARNING,
    Reason.NAME_TAKEN: EventType.WARNING,
    Reason.PODS_REFUSED: EventType.WARNING,
    Reason.POD_NOT_STARTED: EventType.WARNING,
    Reason.GPU_FAILED: EventType.WARNING,
    Reason.CLEANUP_FAILED: EventType.WARNING,
    Reason.KUBERAY_MISSING: EventType.WARNING,
    Reason.SUSPENDED: EventType.NORMAL,
}
"""Reasons of a job on its way that an event tells of."""


def events_between(
    old: PersonalizationJobStatus, new: PersonalizationJobStatus
) -> tuple[Event, ...]:
    """Events for a change from one status to the next; none when it says the same."""
    return (*_of_the_job(old, new), *_of_its_checkpoints(old, new))


def _of_the_job(old: PersonalizationJobStatus, new: PersonalizationJobStatus) -> Iterator[Event]:
    summary = new.summary
    if summary is None or summary.reason is old.word:
        return
    if summary.reason in _TOLD:
        yield Event(_TOLD[summary.reason], summary.reason, summary.message)
    elif summary.status is ConditionStatus.FALSE and not old.is_over:
        yield _failed(summary)


def _of_its_checkpoints(
    old: PersonalizationJobStatus, new: PersonalizationJobStatus
) -> Iterator[Event]:
    before, found = (one.condition(ConditionType.CHECKPOINTED) for one in (old, new))
    if found is None or found.reason is not Reason.CHECKPOINT_FAILED:
        return
    if before is None or before.reason is not found.reason:
        yield _failed(found)


def _failed(condition: Condition) -> Event:
    text = f"{condition.message}; {condition.reason.hint}"
    return Event(EventType.WARNING, condition.reason, text)
