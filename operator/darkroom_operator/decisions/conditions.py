"""What a job's conditions say in a situation. Pure; the table of the status, read top to bottom."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from darkroom_api.status import (
    Condition,
    ConditionStatus,
    ConditionType,
    PersonalizationJobStatus,
    Reason,
)
from darkroom_api.times import format_time
from darkroom_operator.decisions.failures import Finding

RUNNING: Final = (Reason.PREPARING, Reason.TRAINING, Reason.PUBLISHING)
"""Reasons of `Succeeded` while an attempt's processes work."""

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where a job is, in one word and a sentence; everything else follows from it and the status."""

    reason: Reason
    message: str

    outcome: ConditionStatus = _UNKNOWN
    """Status of `Succeeded`."""

    objection: Finding | None = None
    """Why the job is not accepted."""

    queued: bool | None = None
    """Whether it waits for quota; None for a job without a queue."""

    unsaved: str | None = None
    """Why the newest checkpoint could not be written; None when it was, or none was due."""


@dataclass(frozen=True, slots=True)
class _Claim:
    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str


def with_conditions(
    status: PersonalizationJobStatus, situation: Situation, generation: int, now: datetime
) -> PersonalizationJobStatus:
    """A status that says so; the time of a condition changes only with its status."""
    before = {condition.type: condition for condition in status.conditions}
    conditions = tuple(
        _condition(claim, before.get(claim.type), generation, now)
        for claim in _claims(status, situation)
    )
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def with_summary(
    status: PersonalizationJobStatus, reason: Reason, message: str, generation: int, now: datetime
) -> PersonalizationJobStatus:
    """A status whose `Succeeded` has another reason; whether it holds, and all else, stays as it was."""
    before = status.summary
    holds = before.status if before is not None else _UNKNOWN
    claim = _Claim(ConditionType.SUCCEEDED, holds, reason, message)
    summary = _condition(claim, before, generation, now)
    others = tuple(one for one in status.conditions if one.type is not summary.type)
    return restamped(status.model_copy(update={"conditions": (*others, summary)}), generation)


def restamped(status: PersonalizationJobStatus, generation: int) -> PersonalizationJobStatus:
    """The same status, said of a newer generation."""
    conditions = tuple(
        one.model_copy(update={"observed_generation": generation}) for one in status.conditions
    )
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def claimed(
    status: PersonalizationJobStatus, before: PersonalizationJobStatus, operator: str
) -> PersonalizationJobStatus:
    """A status that names its operator, where it says something new or took a job over from another."""
    if status == before and before.operator is None:
        return status
    return status.model_copy(update={"operator": operator})


def _condition(
    claim: _Claim, before: Condition | None, generation: int, now: datetime
) -> Condition:
    same = before is not None and before.status is claim.status
    return Condition.of(
        type=claim.type,
        status=claim.status,
        reason=claim.reason,
        message=claim.message[:4096],
        last_transition_time=before.last_transition_time if before and same else format_time(now),
        observed_generation=generation,
    )


def _claims(status: PersonalizationJobStatus, situation: Situation) -> Iterator[_Claim]:
    yield _accepted(situation)
    if situation.queued is not None:
        yield _quota(situation.queued)
    yield _started(status, situation)
    yield _suspended(situation)
    yield _stalled(status, situation)
    yield _checkpointed(status, situation)
    yield _Claim(ConditionType.SUCCEEDED, situation.outcome, situation.reason, situation.message)
    yield _published(status, situation)


def _accepted(situation: Situation) -> _Claim:
    if (objection := situation.objection) is not None:
        return _Claim(ConditionType.ACCEPTED, _FALSE, objection.reason, objection.message)
    return _Claim(ConditionType.ACCEPTED, _TRUE, Reason.SPEC_ACCEPTED, "the job can run")


def _quota(queued: bool) -> _Claim:
    if queued:
        return _Claim(
            ConditionType.QUOTA_RESERVED, _FALSE, Reason.QUEUED, "Kueue has not admitted it"
        )
    return _Claim(
        ConditionType.QUOTA_RESERVED, _TRUE, Reason.QUOTA_RESERVED, "Kueue has admitted it"
    )


def _started(status: PersonalizationJobStatus, situation: Situation) -> _Claim:
    if situation.reason in RUNNING:
        message = f"attempt {status.attempts[-1].name} is at work"
        return _Claim(ConditionType.STARTED, _TRUE, situation.reason, message)
    before = status.condition(ConditionType.STARTED)
    began = before is not None and before.status is _TRUE
    if situation.outcome is _TRUE or (situation.outcome is _FALSE and began):
        return _Claim(ConditionType.STARTED, _TRUE, Reason.TRAINING, "the training began")
    return _Claim(ConditionType.STARTED, _FALSE, situation.reason, situation.message)


def _suspended(situation: Situation) -> _Claim:
    if situation.reason in (Reason.SUSPENDED, Reason.SUSPENDING):
        status = _TRUE if situation.reason is Reason.SUSPENDED else _FALSE
        return _Claim(ConditionType.SUSPENDED, status, situation.reason, situation.message)
    return _Claim(ConditionType.SUSPENDED, _FALSE, Reason.NOT_SUSPENDED, "it is not suspended")


def _stalled(status: PersonalizationJobStatus, situation: Situation) -> _Claim:
    last = status.newest_attempt
    if last is not None and last.reason is Reason.NO_PROGRESS:
        message = f"attempt {last.name} did no step for too long"
        return _Claim(ConditionType.STALLED, _TRUE, Reason.NO_PROGRESS, message)
    if situation.reason in RUNNING:
        return _Claim(
            ConditionType.STALLED, _FALSE, Reason.MAKING_PROGRESS, "the attempt makes progress"
        )
    return _Claim(ConditionType.STALLED, _FALSE, Reason.PENDING, "nothing is running")


def _checkpointed(status: PersonalizationJobStatus, situation: Situation) -> _Claim:
    if situation.unsaved is not None:
        return _Claim(
            ConditionType.CHECKPOINTED, _FALSE, Reason.CHECKPOINT_FAILED, situation.unsaved
        )
    if (checkpoint := status.checkpoint) is None:
        return _Claim(
            ConditionType.CHECKPOINTED, _FALSE, Reason.NO_CHECKPOINT, "there is no checkpoint yet"
        )
    message = f"step {checkpoint.step} is saved"
    return _Claim(ConditionType.CHECKPOINTED, _TRUE, Reason.CHECKPOINT_WRITTEN, message)


def _published(status: PersonalizationJobStatus, situation: Situation) -> _Claim:
    if situation.outcome is _TRUE:
        where = status.model.uri if status.model is not None else "the registry"
        return _Claim(
            ConditionType.PUBLISHED, _TRUE, Reason.MODEL_PUBLISHED, f"the model is in {where}"
        )
    if situation.outcome is _FALSE:
        return _Claim(
            ConditionType.PUBLISHED, _FALSE, Reason.NOT_PUBLISHED, "the job ended without a model"
        )
    reason = Reason.PUBLISHING if situation.reason is Reason.PUBLISHING else Reason.PENDING
    return _Claim(ConditionType.PUBLISHED, _UNKNOWN, reason, "the training is not finished")
