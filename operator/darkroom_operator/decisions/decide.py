"""What to do about a job: the specification of the operator. Pure and level-triggered.

`decide` is given everything that is known and the time, and answers with the status to write and the
actions to take. It remembers nothing: whatever was missed, repeated or interrupted, the same state has
the same answer, and once the answer is carried out there is nothing more to do.

The life of a job, by its attempts:

    accepted ──► attempt open ──► started ──► training ──► succeeded: over
                    ▲   ├── failed by the job's own fault ──────────► over
                    │   ├── failed otherwise, preempted or stalled ─► over, when the budget is used up
                    │   │     └── waits, then the next attempt ──┐
                    │   └── suspended: pods save and go, resumed ┤
                    └────────────────────────────────────────────┘

An attempt is opened in the status before anything of it exists, and closed before anything of it is
removed. So the status tells what is wanted: the run of a closed attempt is stopped, that of an open one
is started if it isn't there. At most one attempt has pods: the next waits until those before are gone.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.status import (
    Attempt,
    ConditionStatus,
    ConditionType,
    PersonalizationJobStatus,
    Reason,
)
from darkroom_api.times import format_time, parse_time
from darkroom_operator.decisions import attempts, conditions, progress
from darkroom_operator.decisions.acceptance import objection
from darkroom_operator.decisions.actions import Decision
from darkroom_operator.decisions.draft import Course, Moment, earliest, over, queued, stops
from darkroom_operator.decisions.events import events_between
from darkroom_operator.decisions.failures import Finding, cause_of
from darkroom_operator.decisions.finished import after_the_end, deletion, time_to_live
from darkroom_operator.decisions.next_attempt import between_attempts
from darkroom_operator.decisions.observed import Observed, Run, RunState
from darkroom_operator.decisions.open_attempt import in_attempt, starting_trouble
from darkroom_operator.decisions.refusals import held_back, told
from darkroom_operator.decisions.write_pacing import paced
from darkroom_operator.settings import Settings


def decide(observed: Observed, now: datetime, settings: Settings) -> Decision:
    """The status of a job and what is to be done."""
    job, moment = observed.job, Moment(observed, now, settings)
    if job.deleting:
        return held_back(deletion(moment), observed, now, settings)
    if job.status.is_over:
        return held_back(after_the_end(observed, now), observed, now, settings)
    course = _course(moment)
    situation = replace(
        told(course.situation, course.actions, observed),
        unsaved=progress.unsaved(course.status, observed.report),
    )
    status = conditions.with_conditions(course.status, situation, job.generation, now)
    status = conditions.claimed(status, job.status, settings.identity)
    again = earliest(now, course.again)
    again_after = again - now if again is not None else None
    if course.situation.outcome is not ConditionStatus.UNKNOWN:
        status = status.model_copy(update={"completion_time": format_time(now)})
        again_after = time_to_live(job)  # our own write is no news that would bring the job back
    decision = Decision(
        status=status if status != job.status else None,
        actions=course.actions,
        events=events_between(job.status, status),
        again_after=again_after,
    )
    return paced(held_back(decision, observed, now, settings), observed, now, settings)


def _course(moment: Moment) -> Course:
    job = moment.observed.job
    status = progress.absorbed(job.status, moment.observed.report)
    refusal = objection(moment.observed, moment.now, moment.settings)
    # What was accepted once goes on: a consent that expires later does not end a training.
    if job.spec is None or (refusal is not None and status.newest_attempt is None):
        assert refusal is not None
        return Course(status, over(refusal, objection=refusal))
    attempt = status.current_attempt
    if attempt is None:
        return between_attempts(moment, job.spec, status)
    status = _with_queue_time(moment, attempt, status)
    if (ended := _end_of(moment, job.spec, attempt, status)) is not None:
        return _close(moment, job.spec, status, ended)
    course = in_attempt(moment, attempt, status)
    return replace(
        course,
        again=earliest(moment.now, course.again, *_limits(moment, job.spec, attempt, status)),
    )


def _end_of(
    moment: Moment,
    spec: PersonalizationJobSpec,
    attempt: Attempt,
    status: PersonalizationJobStatus,
) -> Finding | None:
    """Why an open attempt is over; None while it goes on."""
    run, policy = moment.observed.run(attempt.name), spec.run_policy
    if run is not None and run.state is RunState.SUCCEEDED:
        return Finding(Reason.COMPLETED, "the model is published")
    if run is not None and run.state.is_over:
        return _failure(moment.observed, run)
    if policy.suspend:
        return Finding(Reason.SUSPENDED, "runPolicy.suspend is true")
    limit = policy.active_deadline_seconds
    if limit is not None and attempts.active_seconds(status, moment.now) >= limit:
        return Finding(Reason.DEADLINE_EXCEEDED, f"it was active for {limit} s")
    moved = progress.last_advance(status, moment.observed.report)
    patience = timedelta(seconds=policy.progress_deadline_seconds)
    start_limit = _start_limit(moment, spec, attempt, run, status)
    if run is not None and start_limit is not None and moment.now >= start_limit:
        return _not_started(moment.observed, spec, run)
    running = run is not None and run.state is RunState.RUNNING
    if running and moved is not None and moment.now >= moved + patience:
        return Finding(Reason.NO_PROGRESS, f"no step for {policy.progress_deadline_seconds} s")
    return None


def _start_limit(
    moment: Moment,
    spec: PersonalizationJobSpec,
    attempt: Attempt,
    run: Run | None,
    status: PersonalizationJobStatus,
) -> datetime | None:
    """Until when a run has to start; None for one that doesn't.

    One that had started, and whose cluster KubeRay makes again, has as long.
    """
    if run is None or run.state is not RunState.STARTING:
        return None
    moved = progress.last_advance(status, moment.observed.report)
    since = (
        parse_time(attempt.start_time),
        run.created,
        moved,
        *_waits_since(moment, status, moved),
    )
    return max(time for time in since if time is not None) + timedelta(
        seconds=spec.run_policy.start_deadline_seconds
    )


def _waits_since(
    moment: Moment, status: PersonalizationJobStatus, moved: datetime | None
) -> Iterator[datetime]:
    """When the job got its quota, and when it last ceased to run; now, where the status says otherwise."""
    quota = status.condition(ConditionType.QUOTA_RESERVED)
    started = status.condition(ConditionType.STARTED)
    if quota is not None:
        has_quota = quota.status is ConditionStatus.TRUE
        yield parse_time(quota.last_transition_time) if has_quota else moment.now
    if started is not None and started.status is not ConditionStatus.TRUE:
        yield parse_time(started.last_transition_time)
    elif started is not None and moved is None:
        yield moment.now


def _not_started(observed: Observed, spec: PersonalizationJobSpec, run: Run) -> Finding:
    text = f"it did not start within {spec.run_policy.start_deadline_seconds} s"
    trouble = starting_trouble(observed, run)
    return Finding(
        Reason.START_DEADLINE_EXCEEDED,
        f"{text}: {trouble.message}" if trouble is not None else text,
    )


def _failure(observed: Observed, run: Run) -> Finding:
    if run.state is RunState.REFUSED:
        return Finding(Reason.NOT_SUPPORTED, f"KubeRay refuses the RayJob: {run.message}")
    if run.state is RunState.STOPPED:
        return Finding(Reason.PREEMPTED, f"somebody stopped {run.name}")
    report = observed.report
    failure = report.body.failure if report is not None and report.attempt == run.name else None
    said = Finding(failure.reason, failure.message) if failure is not None else None
    return cause_of(said, observed.evidence, run.message)


def _close(
    moment: Moment,
    spec: PersonalizationJobSpec,
    status: PersonalizationJobStatus,
    ended: Finding,
) -> Course:
    """Ends the attempt, and the job with it or not."""
    reported = progress.last_advance(status, moment.observed.report) is not None
    status = attempts.closed(status, ended.reason, spec.scale, moment.now, reported=reported)
    waits = queued(moment.observed, moment.observed.run(status.attempts[-1].name))
    if ended.reason is Reason.COMPLETED:
        situation = replace(over(ended, outcome=ConditionStatus.TRUE), queued=waits)
        return Course(status, situation)
    if ended.reason.is_terminal:
        return Course(status, replace(over(ended), queued=waits), stops(moment.observed))
    return between_attempts(moment, spec, status, ended)


def _with_queue_time(
    moment: Moment, attempt: Attempt, status: PersonalizationJobStatus
) -> PersonalizationJobStatus:
    """Counts the time in the queue, at the moment when the wait is over."""
    before = status.condition(ConditionType.QUOTA_RESERVED)
    waits = queued(moment.observed, moment.observed.run(attempt.name))
    if before is None or before.status is ConditionStatus.TRUE or waits:
        return status
    waited = moment.now - parse_time(before.last_transition_time)
    return attempts.waited(status, max(0, int(waited / timedelta(seconds=1))))


def _limits(
    moment: Moment,
    spec: PersonalizationJobSpec,
    attempt: Attempt,
    status: PersonalizationJobStatus,
) -> Iterator[datetime | None]:
    """When the deadlines of an open attempt come, if nothing happens until then."""
    policy, run = spec.run_policy, moment.observed.run(attempt.name)
    moved = progress.last_advance(status, moment.observed.report)
    if moved is not None:
        yield moved + timedelta(seconds=policy.progress_deadline_seconds)
    if policy.active_deadline_seconds is not None:
        left = policy.active_deadline_seconds - attempts.active_seconds(status, moment.now)
        yield moment.now + timedelta(seconds=left)
    yield _start_limit(moment, spec, attempt, run, status)
