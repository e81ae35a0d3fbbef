"""`decide` as a table, about jobs that wait: for quota, for what is missing, for what was refused."""

from dataclasses import replace

import pytest

from darkroom_api.status import ConditionType
from darkroom_operator.decisions.actions import Launch
from darkroom_operator.decisions.decide import decide
from darkroom_operator.decisions.observed import (
    Refusal,
    RefusalKind,
    RunState,
)
from darkroom_testing.in_memory.builders import (
    NOW,
    SETTINGS,
    job,
    observed,
    run,
    seconds,
    with_status,
)
from darkroom_testing.in_memory.decision_steps import (
    QUEUED,
    STOP,
    after,
    condition,
    started,
    summary,
    training,
)

# Kueue.


def test_a_queued_job_waits_for_its_quota_and_its_wait_is_counted():
    waiting = decide(observed(labels=QUEUED), NOW, SETTINGS)
    assert waiting.actions == (Launch("rex-1"),)
    assert summary(waiting) == ("Unknown", "Queued")
    assert condition(waiting, ConditionType.QUOTA_RESERVED) == ("False", "Queued")
    known = with_status(observed(labels=QUEUED), waiting.status, runs=(run(RunState.QUEUED),))
    assert decide(known, NOW + seconds(5), SETTINGS).status is None
    known = replace(known, runs=(run(RunState.STARTING),))
    admitted = decide(known, NOW + seconds(300), SETTINGS)
    assert condition(admitted, ConditionType.QUOTA_RESERVED) == ("True", "QuotaReserved")
    assert admitted.status.usage.queued_seconds == 300
    assert admitted.actions == ()


def test_the_time_in_a_queue_is_not_active_time():
    known = replace(
        started(labels=QUEUED, runPolicy__activeDeadlineSeconds=100), runs=(run(RunState.QUEUED),)
    )
    known = after(known, at=5)
    assert decide(known, NOW + seconds(5000), SETTINGS).status is None
    known = after(replace(known, runs=(run(),)), at=5000)
    assert not known.job.status.is_over
    assert summary(decide(known, NOW + seconds(5100), SETTINGS)) == ("False", "DeadlineExceeded")


def test_an_eviction_by_kueue_keeps_the_attempt_and_is_no_stall_when_it_returns():
    known = training(labels=QUEUED)
    evicted = decide(replace(known, runs=(run(RunState.QUEUED),)), NOW + seconds(60), SETTINGS)
    assert summary(evicted) == ("Unknown", "Preempted")
    assert evicted.actions == ()
    assert len(evicted.status.attempts) == 1
    back = with_status(known, evicted.status, runs=(run(),))
    decision = decide(back, NOW + seconds(99999), SETTINGS)
    assert decision.actions == ()
    assert summary(decision) == ("Unknown", "Starting")


# What keeps a job from starting.


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"subject__images": {"uri": "file:photos"}}, "UnsupportedUri"),
        ({"output__uri": "s3://bucket/models"}, "UnsupportedUri"),
        (
            {
                "subject__kind": "Person",
                "subject__consent": {
                    "recordRef": {"name": "ada"}, "expires": "2026-01-01T00:00:00Z",
                },
            },
            "ConsentExpired",
        ),
    ],
)  # fmt: skip
def test_a_job_that_can_never_run_is_told_so_at_once(changes, word):
    decision = decide(observed(**changes), NOW, SETTINGS)
    assert summary(decision) == ("False", word)
    assert condition(decision, ConditionType.ACCEPTED) == ("False", word)
    assert decision.actions == ()


def test_a_spec_that_cannot_be_read_ends_the_job_with_the_field():
    unread = replace(job(), spec=None, problem="spec.training.maxSteps: must be at least 1")
    decision = decide(observed(job=unread), NOW, SETTINGS)
    assert summary(decision) == ("False", "SpecInvalid")
    assert "maxSteps" in decision.status.condition(ConditionType.ACCEPTED).message


def test_a_folder_that_the_administrator_lists_is_accepted():
    settings = replace(SETTINGS, file_roots=("/data",))
    uri = {"uri": "file:/data/rex"}
    assert decide(observed(subject__images=uri), NOW, settings).actions == (Launch("rex-1"),)
    for escape in ("file:/data/../etc", "file:/database", "file:data"):
        decision = decide(observed(subject__images={"uri": escape}), NOW, settings)
        assert summary(decision) == ("False", "UnsupportedUri")


def test_a_consent_that_ends_while_the_job_trains_does_not_end_the_job():
    consent = {"recordRef": {"name": "ada"}, "expires": "2026-11-25T12:00:30Z"}
    known = training(subject__kind="Person", subject__consent=consent)
    assert decide(known, NOW + seconds(60), SETTINGS).status is None


def test_a_missing_config_map_is_waited_for_and_named():
    lacking = observed(subject__images={"configMap": "rex-photos"}, missing=("rex-photos",))
    decision = decide(lacking, NOW, SETTINGS)
    assert summary(decision) == ("Unknown", "Pending")
    assert condition(decision, ConditionType.ACCEPTED) == ("False", "VolumeMissing")
    assert decision.again_after == seconds(SETTINGS.refusal_seconds)
    known = with_status(lacking, decision.status, missing=())
    assert decide(known, NOW + seconds(60), SETTINGS).actions == (Launch("rex-1"),)


def refused(kind, message, action=Launch("rex-1")):  # noqa: B008 - frozen
    return Refusal(kind=kind, action=action, message=message, time=NOW)


def test_a_missing_kuberay_is_a_condition_with_the_command_that_installs_it():
    refusal = refused(RefusalKind.NOT_INSTALLED, "404")
    known = after(observed(), refusal=refusal)
    decision = decide(known, NOW + seconds(1), SETTINGS)
    assert summary(decision) == ("Unknown", "KubeRayMissing")
    assert "helm install kuberay-operator" in decision.events[0].message
    assert (decision.actions, decision.again_after) == ((), seconds(59))
    known = with_status(known, decision.status)
    assert decide(known, NOW + seconds(60), SETTINGS).actions == (Launch("rex-1"),)


def test_a_refused_launch_says_why_and_is_tried_again():
    refusal = refused(RefusalKind.REFUSED, "exceeded quota: pods")
    decision = decide(after(observed(), refusal=refusal), NOW + seconds(1), SETTINGS)
    assert summary(decision) == ("Unknown", "LaunchRefused")
    assert "exceeded quota" in decision.status.condition(ConditionType.STARTED).message


def test_a_run_that_kuberay_finds_invalid_ends_the_job():
    known = replace(started(), runs=(run(RunState.REFUSED, message="spec is wrong"),))
    assert summary(decide(known, NOW, SETTINGS)) == ("False", "NotSupported")


def test_an_object_in_the_way_is_named_and_waited_for():
    refusal = refused(RefusalKind.NAME_TAKEN, "ConfigMap rex-darkroom is in the way")
    decision = decide(after(observed(), refusal=refusal), NOW + seconds(1), SETTINGS)
    assert summary(decision) == ("Unknown", "NameTaken")
    assert "ConfigMap rex-darkroom" in decision.events[0].message
    assert (decision.actions, decision.again_after) == ((), seconds(59))


def test_a_run_that_cannot_be_stopped_is_told_and_tried_again():
    spec = job(runPolicy__suspend=True).spec
    known = training()
    known = replace(known, job=replace(known.job, spec=spec))
    known = after(known, at=20, refusal=refused(RefusalKind.REFUSED, "forbidden", STOP))
    decision = decide(known, NOW + seconds(21), SETTINGS)
    assert summary(decision) == ("Unknown", "LaunchRefused")
    assert "rex-1 can't be stopped: forbidden" in decision.events[0].message
    assert (decision.actions, decision.again_after) == ((), seconds(39))
    assert decide(known, NOW + seconds(60), SETTINGS).actions == (STOP,)
