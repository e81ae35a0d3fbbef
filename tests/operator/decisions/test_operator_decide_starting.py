"""`decide` as a table, about attempts whose pods don't start: what is told, and until when it is waited."""

from dataclasses import replace

import pytest

from darkroom_api.status import ConditionType, Reason
from darkroom_operator.decisions.actions import Launch
from darkroom_operator.decisions.decide import decide
from darkroom_operator.decisions.observed import RunState
from darkroom_testing.in_memory.builders import KEY, NOW, SETTINGS, pod, report, run, seconds
from darkroom_testing.in_memory.decision_steps import (
    QUEUED,
    STOP,
    after,
    condition,
    started,
    summary,
    training,
)

START = 1800


def starting(**facts):
    return replace(run(RunState.STARTING), **facts)


def test_what_pods_lack_is_told_after_a_while():
    trouble = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    known = replace(started(), pods=(pod(trouble=trouble),))
    assert decide(known, NOW + seconds(5), SETTINGS).again_after == seconds(15)
    decision = decide(known, NOW + seconds(20), SETTINGS)
    assert summary(decision) == ("Unknown", "Unschedulable")
    assert "no node has a free GPU" in decision.events[0].message


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ('pods "a" is forbidden: exceeded quota: q, requested: cpu=4', "ResourceQuota"),
        ('pods "a" is forbidden: failed quota: q: must specify limits.cpu for: x', "LimitRange"),
        ('pods "a" is forbidden: maximum cpu usage per Container is 1', "LimitRange"),
        ('error looking up service account n/x: serviceaccount "x" not found', "ServiceAccount"),
        ("pods is forbidden: no PriorityClass with name high was found", "PriorityClass"),
        ('pods "a" is forbidden: violates PodSecurity "restricted:v1.37"', "restricted"),
        ("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", "administrator"),
        ('admission webhook "w" denied the request: no', "administrator"),
    ],
)
def test_pods_that_the_api_server_refuses_are_told_with_what_to_do(words, fix):
    known = replace(started(), runs=(starting(trouble=f"FailedCreateHeadPod: {words}"),))
    decision = decide(known, NOW + seconds(20), SETTINGS)
    assert summary(decision) == ("Unknown", "PodsRefused")
    assert words in decision.events[0].message
    assert fix in decision.events[0].message.removeprefix(f"FailedCreateHeadPod: {words}")


def test_trouble_that_is_in_no_table_is_told_in_its_own_words():
    known = replace(started(), pods=(pod(trouble="CrashLoopBackOff: back-off 10s restarting"),))
    decision = decide(known, NOW + seconds(20), SETTINGS)
    assert summary(decision) == ("Unknown", "PodNotStarted")
    assert "back-off 10s restarting" in decision.events[0].message


def test_a_volume_that_another_node_holds_is_told_with_what_to_do():
    trouble = 'FailedAttachVolume: Multi-Attach error for volume "v"'
    decision = decide(replace(started(), pods=(pod(trouble=trouble),)), NOW + seconds(20), SETTINGS)
    assert "ReadWriteMany" in decision.events[0].message


def test_events_are_looked_for_less_and_less_often():
    known = started()
    waits = [decide(known, NOW + seconds(at), SETTINGS).again_after for at in (20, 30, 60, 600)]
    assert waits == [seconds(10), seconds(15), seconds(30), seconds(300)]


def test_an_attempt_that_does_not_start_in_time_gives_up_what_it_holds():
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    known = replace(started(), pods=(pod(), pod("rex-1-head", trouble=words)))
    assert decide(known, NOW + seconds(START - 1), SETTINGS).actions == ()
    decision = decide(known, NOW + seconds(START), SETTINGS)
    assert decision.actions == (STOP,)
    assert decision.status.attempts[-1].reason is Reason.START_DEADLINE_EXCEEDED
    assert decision.status.retries.infrastructure == 1
    assert f"did not start within {START} s: {words}" in decision.events[0].message


def test_the_deadline_for_a_start_is_the_job_s_own():
    known = started(runPolicy__startDeadlineSeconds=60)
    assert decide(known, NOW + seconds(50), SETTINGS).again_after == seconds(10)
    assert decide(known, NOW + seconds(60), SETTINGS).actions == (STOP,)


def test_the_time_in_a_queue_is_no_time_to_start():
    known = replace(started(labels=QUEUED), runs=(run(RunState.QUEUED),))
    known = after(known, at=5)
    assert decide(known, NOW + seconds(99999), SETTINGS).actions == ()
    known = after(replace(known, runs=(starting(),)), at=10000)
    assert decide(known, NOW + seconds(10000 + START - 1), SETTINGS).actions == ()
    assert decide(known, NOW + seconds(10000 + START), SETTINGS).actions == (STOP,)


def test_the_time_until_a_launch_is_accepted_is_no_time_to_start():
    known = replace(started(), runs=(starting(created=NOW + seconds(5000)),))
    assert decide(known, NOW + seconds(5000 + START - 1), SETTINGS).actions == ()
    assert decide(known, NOW + seconds(5000 + START), SETTINGS).actions == (STOP,)


def test_a_run_whose_cluster_is_made_again_has_as_long_to_start():
    at = NOW + seconds(10000)
    known = replace(training(), report=report(400, advanced=at), runs=(starting(),))
    assert decide(known, at + seconds(START - 1), SETTINGS).actions == ()
    assert decide(known, at + seconds(START), SETTINGS).actions == (STOP,)


def test_a_run_at_work_that_never_reports_has_started():
    known = replace(started(), runs=(run(),))
    assert decide(known, NOW + seconds(START), SETTINGS).actions == ()


# Settings that change.


def test_an_attempt_that_has_not_started_is_made_anew_when_it_would_be_another():
    known = replace(started(), runs=(starting(rendered="a", version="7"),), wanted="b")
    decision = decide(known, NOW + seconds(5), SETTINGS)
    assert decision.actions == (replace(STOP, version="7"),)
    message = decision.status.summary.message
    assert "made anew: the operator's settings have changed" in message
    assert condition(decision, ConditionType.SUCCEEDED) == ("Unknown", "Starting")
    gone = after(known, at=5, runs=(), wanted=None)
    again = decide(gone, NOW + seconds(6), SETTINGS)
    assert again.actions == (Launch(f"{KEY.name}-1"),)


@pytest.mark.parametrize(
    "facts",
    [
        {"runs": (starting(rendered="a"),), "wanted": "a"},
        {"runs": (starting(rendered=None),), "wanted": "b"},
        {"runs": (run(RunState.RUNNING),), "wanted": "b"},
        {"runs": (run(RunState.QUEUED),), "wanted": "b"},
    ],
    ids=["the same", "from before there were digests", "at work", "in a queue"],
)
def test_any_other_attempt_is_left_as_it_is(facts):
    assert decide(replace(started(), **facts), NOW + seconds(5), SETTINGS).actions == ()
