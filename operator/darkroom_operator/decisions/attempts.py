"""The attempts of a job in its status: opened, closed and charged to a budget. Pure: status in, status out."""

from datetime import datetime, timedelta
from typing import Final

from darkroom_api.job import Scale
from darkroom_api.status import Attempt, PersonalizationJobStatus, Reason, Retries, Usage
from darkroom_api.times import format_time, parse_time, seconds_between
from darkroom_operator.settings import Settings

KEPT: Final = 10
"""Attempts that a status lists; the counts of all of them are in `retries` and `usage`."""

_FREE: Final = (Reason.COMPLETED, Reason.SUSPENDED, Reason.DEADLINE_EXCEEDED)
"""Ends that are nobody's fault and no budget's."""


def next_name(job_name: str, status: PersonalizationJobStatus) -> str:
    """Name of the attempt after the last: `<job>-<number>`."""
    last = status.newest_attempt
    number = int(last.name.rpartition("-")[2]) if last is not None else 0
    return f"{job_name}-{number + 1}"


def opened(
    status: PersonalizationJobStatus, name: str, scale: Scale, now: datetime
) -> PersonalizationJobStatus:
    """With a new attempt, which continues from the last checkpoint."""
    step = status.checkpoint.step if status.checkpoint is not None else 0
    attempt = Attempt.of(name=name, start_step=step, start_time=format_time(now))
    return status.model_copy(
        update={
            "attempts": (*status.attempts, attempt)[-KEPT:],
            "start_time": status.start_time or format_time(now),
            "usage": _with_lost(status, step, scale),
        }
    )


def closed(
    status: PersonalizationJobStatus,
    reason: Reason,
    scale: Scale,
    now: datetime,
    *,
    reported: bool,
) -> PersonalizationJobStatus:
    """With the current attempt ended, its time added up and the right budget charged.

    `reported` says that the progress in the status is this attempt's, and not of one before it.
    """
    *others, attempt = status.attempts
    progress = status.progress
    end_step = progress.step if progress is not None and reported else attempt.start_step
    ended = attempt.model_copy(
        update={
            "end_time": format_time(now),
            "end_step": max(end_step, attempt.start_step),
            "reason": reason,
        }
    )
    usage = _usage(status)
    active = active_seconds_of(attempt, status, now)
    return status.model_copy(
        update={
            "attempts": (*others, ended),
            "progress": progress and progress.model_copy(update={"eta_seconds": None}),
            "retries": _charged(status.retries, reason),
            "usage": usage.model_copy(
                update={
                    "active_seconds": usage.active_seconds + active,
                    "gpu_seconds": usage.gpu_seconds + active * _gpus(scale),
                }
            ),
        }
    )


def moved(
    status: PersonalizationJobStatus, *, start_step: int, step: int
) -> PersonalizationJobStatus:
    """With the last attempt's steps as it reported them itself."""
    *others, attempt = status.attempts
    steps = {"start_step": start_step}
    if attempt.end_time is not None:
        steps["end_step"] = max(step, start_step)
    return status.model_copy(update={"attempts": (*others, attempt.model_copy(update=steps))})


def active_seconds(status: PersonalizationJobStatus, now: datetime) -> int:
    """Time that the job was active: all attempts, without what it waited for quota."""
    attempt = status.current_attempt
    open_seconds = active_seconds_of(attempt, status, now) if attempt is not None else 0
    return _usage(status).active_seconds + open_seconds


def active_seconds_of(attempt: Attempt, status: PersonalizationJobStatus, now: datetime) -> int:
    """Time since an attempt began or, for a queued job, since it had its quota."""
    since = attempt.start_time
    for condition in status.conditions:
        if condition.type == "QuotaReserved":
            if condition.status != "True":
                return 0
            since = max(since, condition.last_transition_time)
    return seconds_between(since, now)


def waited(status: PersonalizationJobStatus, seconds: int) -> PersonalizationJobStatus:
    """With more time spent in a queue."""
    usage = _usage(status)
    queued = usage.queued_seconds + seconds
    return status.model_copy(update={"usage": usage.model_copy(update={"queued_seconds": queued})})


def exhausted(status: PersonalizationJobStatus, backoff_limit: int, settings: Settings) -> bool:
    """Whether a budget is used up."""
    retries = status.retries or Retries()
    return retries.infrastructure > backoff_limit or retries.preemptions > settings.preemption_limit


def next_start(status: PersonalizationJobStatus, settings: Settings) -> datetime | None:
    """When the next attempt may begin: later after each failure, at once after a suspension."""
    last = status.newest_attempt
    if last is None or last.end_time is None or last.reason in _FREE:
        return None
    failures = (status.retries or Retries()).infrastructure
    doublings = 0 if last.reason is Reason.PREEMPTED else min(max(0, failures - 1), 16)
    delay = min(settings.backoff_seconds * 2**doublings, settings.backoff_max_seconds)
    return parse_time(last.end_time) + timedelta(seconds=delay)


def _charged(retries: Retries | None, reason: Reason) -> Retries | None:
    if reason in _FREE or reason.is_terminal:
        return retries
    before = retries or Retries()
    if reason is Reason.PREEMPTED:
        return before.model_copy(update={"preemptions": before.preemptions + 1})
    return before.model_copy(update={"infrastructure": before.infrastructure + 1})


def _with_lost(status: PersonalizationJobStatus, step: int, scale: Scale) -> Usage | None:
    """Adds the GPU time of those steps of the last attempt that have to be done again."""
    last = status.newest_attempt
    if last is None or last.end_time is None or last.end_step is None:
        return status.usage
    done, lost = last.end_step - last.start_step, last.end_step - step
    if done <= 0 or lost <= 0:
        return status.usage
    length = seconds_between(last.start_time, parse_time(last.end_time)) * _gpus(scale)
    usage = _usage(status)
    lost_seconds = usage.lost_gpu_seconds + length * min(lost, done) // done
    return usage.model_copy(update={"lost_gpu_seconds": lost_seconds})


def _usage(status: PersonalizationJobStatus) -> Usage:
    return status.usage or Usage.of(gpu_seconds=0, lost_gpu_seconds=0, queued_seconds=0)


def _gpus(scale: Scale) -> int:
    return scale.workers * scale.gpus_per_worker
