"""What an attempt's report changes in the status, and whether the attempt still moves. Pure."""

from datetime import datetime
from typing import Final

from darkroom_api.report import ProgressReport, RunPhase
from darkroom_api.status import (
    ConditionStatus,
    ConditionType,
    PersonalizationJobStatus,
    Progress,
    Reason,
)
from darkroom_api.times import format_time, parse_time
from darkroom_operator.decisions import attempts
from darkroom_operator.decisions.observed import Report

SUMMARY: Final = {
    RunPhase.STARTING: Reason.PREPARING,
    RunPhase.CLASS_IMAGES: Reason.PREPARING,
    RunPhase.CACHING: Reason.PREPARING,
    RunPhase.TRAINING: Reason.TRAINING,
    RunPhase.VALIDATING: Reason.TRAINING,
    RunPhase.CHECKPOINTING: Reason.TRAINING,
    RunPhase.EXPORTING: Reason.PUBLISHING,
    RunPhase.FINISHED: Reason.PUBLISHING,
    RunPhase.INTERRUPTED: Reason.TRAINING,
}
"""Our word for what a run is doing."""


def absorbed(status: PersonalizationJobStatus, report: Report | None) -> PersonalizationJobStatus:
    """A status that knows what the newest attempt reported; what older ones say comes too late."""
    last = status.newest_attempt
    if report is None or last is None or report.attempt != last.name:
        return status
    body = report.body
    status = attempts.moved(status, start_step=body.start_step, step=body.step)
    return status.model_copy(
        update={
            "progress": _progress(body, report.advanced, over=last.end_time is not None),
            "checkpoint": body.checkpoint or status.checkpoint,
            "model": body.model or status.model,
            "plan": body.plan or status.plan,
        }
    )


def unsaved(status: PersonalizationJobStatus, report: Report | None) -> str | None:
    """Why the newest checkpoint could not be written; after a restart of the operator, as it was told."""
    last = status.newest_attempt
    if report is not None and last is not None and report.attempt == last.name:
        failure, saved = report.body.checkpoint_failure, status.checkpoint
        if failure is None:
            return None
        return f"{failure}; {f'step {saved.step}' if saved is not None else 'nothing'} is saved"
    before = status.condition(ConditionType.CHECKPOINTED)
    failed = before is not None and before.reason is Reason.CHECKPOINT_FAILED
    return before.message if before is not None and failed else None


def last_advance(status: PersonalizationJobStatus, report: Report | None) -> datetime | None:
    """When the current attempt last moved; None while its pods have said nothing since they started.

    After a restart of the operator the time in the status takes the report's place. What was said
    before `Started` last became false came from pods that are gone, of an earlier attempt or of this
    one before Kueue evicted it.
    """
    attempt, progress = status.current_attempt, status.progress
    if attempt is None or progress is None:
        return None
    of_attempt = report is not None and report.attempt == attempt.name
    since = report.advanced if report and of_attempt else parse_time(progress.last_updated_time)
    started = status.condition(ConditionType.STARTED)
    began = parse_time(attempt.start_time)
    if started is not None and started.status is not ConditionStatus.TRUE:
        began = max(began, parse_time(started.last_transition_time))
    return since if since >= began else None


def _progress(body: ProgressReport, advanced: datetime, *, over: bool) -> Progress:
    """A run that is over has no time left, whatever it last said."""
    return Progress.of(
        step=body.step,
        max_steps=body.max_steps,
        percent=100 * min(body.step, body.max_steps) // max(body.max_steps, 1),
        eta_seconds=None if over else body.eta_seconds,
        metrics=body.metrics,
        last_updated_time=format_time(advanced),
    )
