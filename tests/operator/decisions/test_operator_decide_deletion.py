"""`decide` as a table, about jobs that are being deleted: their pods, their model, their finalizer."""

from dataclasses import replace

import pytest

from darkroom_api.names import FINALIZER
from darkroom_operator.decisions.actions import Launch, RemoveModel, SetFinalizer
from darkroom_operator.decisions.decide import decide
from darkroom_operator.decisions.observed import (
    Cleanup,
    CleanupState,
    Refusal,
    RefusalKind,
    RunState,
)
from darkroom_testing.in_memory.builders import (
    NOW,
    SETTINGS,
    job,
    observed,
    pod,
    run,
    seconds,
    with_status,
)
from darkroom_testing.in_memory.decision_steps import STOP, after, summary, training

RELEASE = SetFinalizer(present=False)


def held(known=None, **changes):
    """A job that is being deleted together with its model."""
    fields = {"deleting": True, "finalizers": [FINALIZER], "output__deletionPolicy": "Delete"}
    known = known or observed()
    return replace(known, job=job(status=known.job.status, **{**fields, **changes}))


def tries(*states):
    return tuple(
        Cleanup(name=f"rex-cleanup-{number}", state=state, message="BackoffLimitExceeded: no")
        for number, state in enumerate(states, 1)
    )


def test_a_deleted_job_needs_nothing():
    decision = decide(replace(training(), job=job(deleting=True)), NOW, SETTINGS)
    assert (decision.status, decision.actions) == (None, ())


def test_a_deleted_job_that_others_hold_says_that_it_is_being_deleted():
    known = held(training(), finalizers=["foregroundDeletion"])
    decision = decide(known, NOW, SETTINGS)
    assert (summary(decision), decision.actions) == (("Unknown", "Deleting"), ())
    told = with_status(known, decision.status)
    assert decide(told, NOW + seconds(60), SETTINGS).status is None


def test_the_finalizer_comes_before_the_first_run():
    decision = decide(observed(output__deletionPolicy="Delete"), NOW, SETTINGS)
    assert decision.actions == (SetFinalizer(present=True), Launch("rex-1"))


def test_a_deleted_model_is_removed_after_the_pods_and_before_the_job():
    known = replace(held(training()), runs=(run(),), pods=(pod(),))
    stopping = decide(known, NOW, SETTINGS)
    assert (summary(stopping), stopping.actions) == (("Unknown", "Deleting"), (STOP,))
    known = replace(known, runs=(), pods=())
    assert decide(known, NOW, SETTINGS).actions == (RemoveModel(1),)
    running = replace(known, cleanups=tries(CleanupState.RUNNING))
    monitored = decide(running, NOW, SETTINGS)
    assert monitored.actions == ()
    assert monitored.again_after is not None
    done = replace(known, cleanups=tries(CleanupState.SUCCEEDED))
    assert decide(done, NOW, SETTINGS).actions == (RELEASE,)


def test_a_job_that_had_succeeded_still_has_while_it_is_deleted():
    over = after(replace(training(), runs=(run(RunState.SUCCEEDED),)), at=100)
    assert summary(decide(held(over), NOW, SETTINGS)) == ("True", "Deleting")


def test_a_removal_that_failed_is_tried_again_and_then_told():
    failed = [CleanupState.FAILED]
    known = held(training(), finalizers=[FINALIZER])
    again = decide(replace(known, runs=(), cleanups=tries(*failed)), NOW, SETTINGS)
    assert again.actions == (RemoveModel(2),)
    last = decide(replace(known, runs=(), cleanups=tries(*failed * 3)), NOW, SETTINGS)
    assert (summary(last), last.actions) == (("Unknown", "CleanupFailed"), ())
    assert last.again_after is None
    message = last.events[0].message
    assert "not removed by 3 Jobs" in message
    assert "rex-cleanup-3: BackoffLimitExceeded" in message
    assert "output.deletionPolicy to Retain" in message


def test_keeping_the_model_after_all_lets_a_stuck_deletion_go():
    known = held(training(), output__deletionPolicy="Retain")
    known = replace(known, cleanups=tries(*[CleanupState.FAILED] * 3))
    assert decide(known, NOW, SETTINGS).actions == (RELEASE,)


@pytest.mark.parametrize("pods", [(), (pod(),)])
def test_a_namespace_that_goes_is_not_held_back(pods):
    known = replace(held(training()), runs=(run(),), pods=pods, terminating=True)
    assert decide(known, NOW, SETTINGS).actions == (RELEASE,)


def test_a_namespace_that_goes_is_known_by_its_refusal_too():
    refusal = Refusal(kind=RefusalKind.TERMINATING, action=RemoveModel(1), message="", time=NOW)
    known = replace(held(training()), runs=(), refusal=refusal)
    assert decide(known, NOW, SETTINGS).actions == (RELEASE,)


@pytest.mark.parametrize("action", [RemoveModel(1), RELEASE])
def test_a_refused_deletion_is_told_and_tried_again(action):
    refusal = Refusal(kind=RefusalKind.REFUSED, action=action, message="forbidden", time=NOW)
    known = replace(held(training(), output__deletionPolicy="Delete"), runs=(), refusal=refusal)
    if action == RELEASE:
        known = replace(known, cleanups=tries(CleanupState.SUCCEEDED))
    decision = decide(known, NOW + seconds(1), SETTINGS)
    assert (summary(decision), decision.actions) == (("Unknown", "CleanupFailed"), ())
    assert "forbidden" in decision.status.summary.message
    assert decision.again_after <= seconds(59)
    assert decide(known, NOW + seconds(60), SETTINGS).actions == (action,)
