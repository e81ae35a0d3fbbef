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
from darkroom_operator.decisions.draft import Context, Draft, earliest, over, queued, stops
from darkroom_operator.decisions.events import events_between
from darkroom_operator.decisions.failures import Finding, cause_of
from darkroom_operator.decisions.finished import after_the_end, deletion, time_to_live
from darkroom_operator.decisions.next_attempt import without_open_attempt
from darkroom_operator.decisions.observed import Observed, Run, RunState
from darkroom_operator.decisions.open_attempt import starting_trouble, with_open_attempt
from darkroom_operator.decisions.refusals import held_back, told
from darkroom_operator.decisions.write_pacing import paced
from darkroom_operator.settings import Settings


def decide(observed: Observed, now: datetime, settings: Settings) -> Decision:
    """The status of a job and what is to be done."""
    job, context = observed.job, Context(observed, now, settings)
    if job.deleting:
        return held_back(deletion(context), observed, now, settings)
    if job.status.is_over:
        return held_back(after_the_end(observed, now), observed, now, settings)
    draft = _draft(context)
    situation = replace(
        told(draft.situation, draft.actions, observed),
        unsaved=progress.unsaved(draft.status, observed.report),
    )
    status = conditions.with_conditions(draft.status, situation, job.generation, now)
    status = conditions.claimed(status, job.status, settings.identity)
    again = earliest(now, draft.again)
    again_after = again - now if again is not None else None
    if draft.situation.outcome is not ConditionStatus.UNKNOWN:
        status = status.model_copy(update={"completion_time": format_time(now)})
        again_after = time_to_live(job)  # our own write is no news that would bring the job back
    decision = Decision(
        status=status if status != job.status else None,
        actions=draft.actions,
        events=events_between(job.status, status),
        again_after=again_after,
    )
    return paced(held_back(decision, observed, now, settings), observed, now, settings)


def _draft(context: Context) -> Draft:
    job = context.observed.job
    status = progress.absorbed(job.status, context.observed.report)
    refusal = objection(context.observed, context.now, context.settings)
    # What was accepted once goes on: a consent that expires later does not end a training.
    if job.spec is None or (refusal is not None and status.newest_attempt is None):
        assert refusal is not None
        return Draft(status, over(refusal, objection=refusal))
    attempt = status.current_attempt
    if attempt is None:
        return without_open_attempt(context, job.spec, status)
    status = _with_queue_time(context, attempt, status)
    if (ended := _end_of(context, job.spec, attempt, status)) is not None:
        return _close(context, job.spec, status, ended)
    draft = with_open_attempt(context, attempt, status)
    return replace(
        draft,
        again=earliest(context.now, draft.again, *_limits(context, job.spec, attempt, status)),
    )


def _end_of(
    context: Context,
    spec: PersonalizationJobSpec,
    attempt: Attempt,
    status: PersonalizationJobStatus,
) -> Finding | None:
    """Why an open attempt is over; None while it goes on."""
    run, policy = context.observed.run(attempt.name), spec.run_policy
    if run is not None and run.state is RunState.SUCCEEDED:
        return Finding(Reason.COMPLETED, "the model is published")
    if run is not None and run.state.is_over:
        return _failure(context.observed, run)
    if policy.suspend:
        return Finding(Reason.SUSPENDED, "runPolicy.suspend is true")
    limit = policy.active_deadline_seconds
    if limit is not None and attempts.active_seconds(status, context.now) >= limit:
        return Finding(Reason.DEADLINE_EXCEEDED, f"it was active for {limit} s")
    moved = progress.last_advance(status, context.observed.report)
    patience = timedelta(seconds=policy.progress_deadline_seconds)
    start_limit = _start_limit(context, spec, attempt, run, status)
    if run is not None and start_limit is not None and context.now >= start_limit:
        return _not_started(context.observed, spec, run)
    running = run is not None and run.state is RunState.RUNNING
    if running and moved is not None and context.now >= moved + patience:
        return Finding(Reason.NO_PROGRESS, f"no step for {policy.progress_deadline_seconds} s")
    return None


def _start_limit(
    context: Context,
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
    moved = progress.last_advance(status, context.observed.report)
    since = (
        parse_time(attempt.start_time),
        run.created,
        moved,
        *_waits_since(context, status, moved),
    )
    return max(time for time in since if time is not None) + timedelta(
        seconds=spec.run_policy.start_deadline_seconds
    )


def _waits_since(
    context: Context, status: PersonalizationJobStatus, moved: datetime | None
) -> Iterator[datetime]:
    """When the job got its quota, and when it last ceased to run; now, where the status says otherwise."""
    quota = status.condition(ConditionType.QUOTA_RESERVED)
    started = status.condition(ConditionType.STARTED)
    if quota is not None:
        has_quota = quota.status is ConditionStatus.TRUE
        yield parse_time(quota.last_transition_time) if has_quota else context.now
    if started is not None and started.status is not ConditionStatus.TRUE:
        yield parse_time(started.last_transition_time)
    elif started is not None and moved is None:
        yield context.now


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
    context: Context,
    spec: PersonalizationJobSpec,
    status: PersonalizationJobStatus,
    ended: Finding,
) -> Draft:
    """Ends the attempt, and the job with it or not."""
    reported = progress.last_advance(status, context.observed.report) is not None
    status = attempts.closed(status, ended.reason, spec.scale, context.now, reported=reported)
    waits = queued(context.observed, context.observed.run(status.attempts[-1].name))
    if ended.reason is Reason.COMPLETED:
        situation = replace(over(ended, outcome=ConditionStatus.TRUE), queued=waits)
        return Draft(status, situation)
    if ended.reason.is_terminal:
        return Draft(status, replace(over(ended), queued=waits), stops(context.observed))
    return without_open_attempt(context, spec, status, ended)


def _with_queue_time(
    context: Context, attempt: Attempt, status: PersonalizationJobStatus
) -> PersonalizationJobStatus:
    """Counts the time in the queue, when the wait is over."""
    before = status.condition(ConditionType.QUOTA_RESERVED)
    waits = queued(context.observed, context.observed.run(attempt.name))
    if before is None or before.status is ConditionStatus.TRUE or waits:
        return status
    waited = context.now - parse_time(before.last_transition_time)
    return attempts.waited(status, max(0, int(waited / timedelta(seconds=1))))


def _limits(
    context: Context,
    spec: PersonalizationJobSpec,
    attempt: Attempt,
    status: PersonalizationJobStatus,
) -> Iterator[datetime | None]:
    """When the deadlines of an open attempt come, if nothing happens until then."""
    policy, run = spec.run_policy, context.observed.run(attempt.name)
    moved = progress.last_advance(status, context.observed.report)
    if moved is not None:
        yield moved + timedelta(seconds=policy.progress_deadline_seconds)
    if policy.active_deadline_seconds is not None:
        left = policy.active_deadline_seconds - attempts.active_seconds(status, context.now)
        yield context.now + timedelta(seconds=left)
    yield _start_limit(context, spec, attempt, run, status)
