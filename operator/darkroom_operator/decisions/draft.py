"""Where a job stands and what follows from it: what the steps of `decide` pass on to each other. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from darkroom_api.status import ConditionStatus, PersonalizationJobStatus
from darkroom_operator.decisions.actions import Action, Stop
from darkroom_operator.decisions.conditions import Situation
from darkroom_operator.decisions.failures import Finding
from darkroom_operator.decisions.observed import Observed, Run, RunState
from darkroom_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer that still lacks its conditions."""

    status: PersonalizationJobStatus
    situation: Situation
    actions: tuple[Action, ...] = ()

    again: datetime | None = None
    """When time alone changes the answer."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every step of a decision looks at."""

    observed: Observed
    now: datetime
    settings: Settings


def over(
    ending: Finding,
    *,
    outcome: ConditionStatus = ConditionStatus.FALSE,
    objection: Finding | None = None,
) -> Situation:
    """The situation of a job that has ended."""
    return Situation(
        reason=ending.reason, message=ending.message, outcome=outcome, objection=objection
    )


def stops(observed: Observed) -> tuple[Action, ...]:
    """Ends every run of the job that is still alive."""
    return tuple(
        Stop(run.name, run.uid)
        for run in observed.own_runs
        if not run.state.is_over and run.state is not RunState.STOPPING
    )


def remains(context: Context) -> tuple[str | None, datetime | None]:
    """What may still write into the run's folder, and when to look again because a node may be lost.

    Only asked while no run is wanted: every pod is then a leftover, and so is a run that was made for
    an earlier job of the same name.
    """
    observed, now = context.observed, context.now
    lost = timedelta(seconds=context.settings.lost_pod_seconds)
    pods = [pod for pod in observed.pods if pod.going_until is None or pod.going_until + lost > now]
    runs = [
        run for run in observed.runs if run.owner_uid != observed.job.uid or not run.state.is_over
    ]
    if not pods and not runs:
        return None, None
    ends = [pod.going_until + lost for pod in pods if pod.going_until is not None]
    return f"pod {pods[0].name}" if pods else f"run {runs[0].name}", min(ends, default=None)


def queued(observed: Observed, run: Run | None) -> bool | None:
    """Whether the job waits for quota; None when it is for no queue."""
    if observed.job.queue is None:
        return None
    return run is None or run.state is RunState.QUEUED


def earliest(now: datetime, *times: datetime | None) -> datetime | None:
    """The first of the times that are still to come."""
    return min((time for time in times if time is not None and time > now), default=None)
