"""Decides about an attempt that is open: is it launched, queued, starting or running? Pure."""

from datetime import timedelta
from typing import Final

from darkroom_api.status import Attempt, PersonalizationJobStatus, Reason
from darkroom_api.times import parse_time
from darkroom_operator.decisions import conditions, progress
from darkroom_operator.decisions.actions import Launch, Stop
from darkroom_operator.decisions.conditions import Situation
from darkroom_operator.decisions.draft import Context, Draft, queued, remains
from darkroom_operator.decisions.failures import Finding, trouble_of
from darkroom_operator.decisions.finished import finalizer_actions
from darkroom_operator.decisions.observed import Observed, Run, RunState

LOOK_AGAIN: Final = timedelta(seconds=10)
"""Shortest time between two looks for the events of pods that don't start."""


def with_open_attempt(
    context: Context, attempt: Attempt, status: PersonalizationJobStatus
) -> Draft:
    """Where an open attempt is, and its launch if there is nothing of it yet."""
    observed = context.observed
    run = observed.run(attempt.name)
    waits = queued(observed, run)
    if run is None:
        return _launch(context, attempt, status, waits)
    if run.state is RunState.QUEUED:
        reason, text = _queue_word(observed)
    elif run.state is RunState.STOPPING:
        reason = Reason.STARTING
        text = f"{run.name} is being deleted; it is made anew when it is gone"
    elif not _has_begun(context, run, status):
        return _starting(context, attempt, run, status, waits)
    else:
        reason, text = _running_word(observed, attempt), _at_work(attempt)
    return Draft(status, Situation(reason=reason, message=text, queued=waits))


def _has_begun(context: Context, run: Run, status: PersonalizationJobStatus) -> bool:
    """Whether an attempt is at work: it says so itself, where it has a way to."""
    if context.settings.reports_expected:
        return progress.last_advance(status, context.observed.report) is not None
    return run.state is RunState.RUNNING


def _launch(
    context: Context, attempt: Attempt, status: PersonalizationJobStatus, waits: bool | None
) -> Draft:
    """Starts the run of an attempt, as often as it takes."""
    observed = context.observed
    left, gone = remains(context)
    if left is not None:
        text = f"waits for {left} to go before {attempt.name} starts"
        situation = Situation(reason=Reason.STARTING, message=text, queued=waits)
        return Draft(status, situation, (), gone)
    launch = (*finalizer_actions(observed), Launch(attempt.name))
    reason, text = _queue_word(observed) if waits else (Reason.STARTING, _coming(attempt))
    return Draft(status, Situation(reason=reason, message=text, queued=waits), launch)


def _starting(
    context: Context,
    attempt: Attempt,
    run: Run,
    status: PersonalizationJobStatus,
    waits: bool | None,
) -> Draft:
    """Pods come up; what they lack is told when they have had some time."""
    observed, now = context.observed, context.now
    if run.state is RunState.STARTING and _is_outdated(observed, run):
        text = f"{run.name} is made anew: the operator's settings have changed"
        situation = Situation(reason=Reason.STARTING, message=text, queued=waits)
        # As it was seen: one that has begun meanwhile is not taken away.
        return Draft(status, situation, (Stop(run.name, run.uid, run.version),))
    begun = parse_time(attempt.start_time)
    patience = begun + timedelta(seconds=context.settings.trouble_seconds)
    situation = Situation(reason=Reason.STARTING, message=_coming(attempt), queued=waits)
    if now < patience:
        return Draft(status, situation, (), patience)
    if (trouble := starting_trouble(observed, run)) is not None:
        situation = Situation(reason=trouble.reason, message=trouble.message, queued=waits)
    # What an event tells is on no watch: it is looked for again, less and less often.
    return Draft(status, situation, (), now + max(LOOK_AGAIN, (now - begun) / 2))


def _is_outdated(observed: Observed, run: Run) -> bool:
    """Whether the run would be another if it were made now."""
    return None not in (observed.wanted, run.rendered) and observed.wanted != run.rendered


def starting_trouble(observed: Observed, run: Run) -> Finding | None:
    """What keeps the pods of a run from starting; None when nothing is known of it."""
    pods = (pod for pod in observed.pods if pod.attempt == run.name)
    return trouble_of(run.trouble, [pod.trouble for pod in pods if pod.trouble is not None])


def _queue_word(observed: Observed) -> tuple[Reason, str]:
    before = observed.job.status.word
    if before in (*conditions.RUNNING, Reason.PREEMPTED):
        return Reason.PREEMPTED, "its place was taken away; it continues from its checkpoint"
    return Reason.QUEUED, f"waits in queue {observed.job.queue}"


def _running_word(observed: Observed, attempt: Attempt) -> Reason:
    """Our word for what the attempt does; after a restart of the operator, the word in the status."""
    report = observed.report
    if report is not None and report.attempt == attempt.name:
        return progress.SUMMARY[report.body.phase]
    before = observed.job.status.word
    return before if before in conditions.RUNNING else Reason.TRAINING


def _coming(attempt: Attempt) -> str:
    return f"attempt {attempt.name} waits for its pods"


def _at_work(attempt: Attempt) -> str:
    if attempt.start_step == 0:
        return f"attempt {attempt.name} is at work"
    return f"attempt {attempt.name} continued from step {attempt.start_step}"
