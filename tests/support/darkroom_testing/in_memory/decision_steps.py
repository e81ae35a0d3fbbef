"""Brings a job to where a test of `decide` begins, and reads what a decision says."""

from dataclasses import replace

from darkroom_api.names import QUEUE_LABEL
from darkroom_operator.decisions.actions import Stop
from darkroom_operator.decisions.decide import decide
from darkroom_operator.decisions.observed import Observed, RunState
from darkroom_testing.in_memory.builders import (
    NOW,
    SETTINGS,
    observed,
    report,
    run,
    seconds,
    with_status,
)

STOP = Stop("rex-1", "uid-of-rex-1")
QUEUED = {QUEUE_LABEL: "gpus"}


def after(before: Observed, at=0, **changes):
    """What is known once a decision was carried out, and then something changed."""
    decision = decide(before, NOW + seconds(at), SETTINGS)
    return with_status(before, decision.status or before.job.status, **changes)


def started(**facts):
    """A job whose first attempt is open; its RayJob is known."""
    first = observed(**facts)
    return after(first, runs=(run(RunState.STARTING),))


def training(step=10, **facts):
    """A job whose first attempt trains."""
    before = replace(
        started(**facts), runs=(run(),), report=report(step, advanced=NOW + seconds(5))
    )
    return after(before, at=5)


def summary(decision):
    found = decision.status.summary
    return (found.status.value, found.reason.value)


def condition(decision, type_):
    found = decision.status.condition(type_)
    return (found.status.value, found.reason.value)
