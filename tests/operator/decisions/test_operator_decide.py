"""`decide` as a table: what is known of a job, and what the operator makes of it."""

from dataclasses import replace

import pytest

from darkroom_api.report import Failure, RunPhase
from darkroom_api.status import ConditionType, PersonalizationJobStatus, Reason
from darkroom_operator.decisions.actions import DeleteJob, Launch, Stop
from darkroom_operator.decisions.decide import decide
from darkroom_operator.decisions.observed import RunState
from darkroom_operator.settings import LauncherKind, Settings
from darkroom_testing.in_memory.builders import (
    KEY,
    MODEL,
    NOW,
    SETTINGS,
    checkpoint,
    job,
    observed,
    pod,
    report,
    run,
    seconds,
    with_status,
)
from darkroom_testing.in_memory.decision_steps import (
    STOP,
    after,
    condition,
    started,
    summary,
    training,
)


def test_a_new_job_is_accepted_and_its_first_attempt_opened_and_launched_in_one_write():
    decision = decide(observed(), NOW, SETTINGS)
    assert decision.actions == (Launch("rex-1"),)
    assert [attempt.name for attempt in decision.status.attempts] == ["rex-1"]
    assert decision.status.start_time == "2026-11-25T12:00:00Z"
    assert condition(decision, ConditionType.ACCEPTED) == ("True", "SpecAccepted")
    assert summary(decision) == ("Unknown", "Starting")
    assert decision.events == ()


def test_the_first_status_has_every_condition_of_its_generation():
    status = decide(observed(generation=3), NOW, SETTINGS).status
    types = {one.type for one in status.conditions}
    assert types == set(ConditionType) - {ConditionType.QUOTA_RESERVED}
    assert {one.observed_generation for one in status.conditions} == {3}
    assert status.observed_generation == 3


def test_an_open_attempt_without_its_run_is_launched_again():
    before = after(observed())
    decision = decide(before, NOW, SETTINGS)
    assert decision.status is None
    assert decision.actions == (Launch("rex-1"),)


def test_while_pods_come_up_there_is_nothing_to_do_or_say():
    decision = decide(started(), NOW + seconds(60), SETTINGS)
    assert (decision.status, decision.actions, decision.events) == (None, (), ())


@pytest.mark.parametrize(
    ("phase", "word"),
    [
        (RunPhase.CLASS_IMAGES, "Preparing"),
        (RunPhase.TRAINING, "Training"),
        (RunPhase.CHECKPOINTING, "Training"),
        (RunPhase.EXPORTING, "Publishing"),
    ],
)
def test_the_word_for_a_job_at_work_comes_from_its_report(phase, word):
    before = replace(
        started(), runs=(run(),), report=report(phase=phase, advanced=NOW + seconds(5))
    )
    decision = decide(before, NOW + seconds(5), SETTINGS)
    assert summary(decision) == ("Unknown", word)
    assert condition(decision, ConditionType.STARTED) == ("True", word)


def test_progress_is_in_the_status():
    saved = report(40, advanced=NOW + seconds(9), eta_seconds=100, checkpoint=checkpoint(25))
    status = decide(
        replace(started(), runs=(run(),), report=saved), NOW + seconds(9), SETTINGS
    ).status
    assert (status.progress.step, status.progress.percent, status.progress.eta_seconds) == (
        40,
        5,
        100,
    )
    assert status.progress.last_updated_time == "2026-11-25T12:00:09Z"
    assert status.checkpoint.step == 25
    assert status.condition(ConditionType.CHECKPOINTED).message == "step 25 is saved"


def test_success_is_told_in_one_write_and_needs_nothing_else():
    before = replace(training(), runs=(run(RunState.SUCCEEDED),), report=report(800, model=MODEL))
    decision = decide(before, NOW + seconds(100), SETTINGS)
    assert summary(decision) == ("True", "Completed")
    assert condition(decision, ConditionType.PUBLISHED) == ("True", "ModelPublished")
    assert decision.status.model == MODEL
    assert decision.status.completion_time == "2026-11-25T12:01:40Z"
    assert decision.status.attempts[-1].reason is Reason.COMPLETED
    assert (decision.actions, decision.events, decision.again_after) == ((), (), None)


def test_a_job_that_is_over_stays_over():
    ended = after(replace(training(), runs=(run(RunState.SUCCEEDED),)), at=100)
    decision = decide(replace(ended, runs=()), NOW + seconds(99999), SETTINGS)
    assert (decision.status, decision.actions) == (None, ())


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (Reason.TOO_FEW_PHOTOS, "TooFewPhotos"),
        (Reason.LOSS_NOT_FINITE, "LossNotFinite"),
        (Reason.OUT_OF_MEMORY, "OutOfMemory"),
        (Reason.BASE_MODEL_UNREACHABLE, "BaseModelUnreachable"),
        (Reason.DISK_FULL, "DiskFull"),
    ],
)
def test_an_error_of_the_job_itself_ends_it_at_the_first_attempt(reason, word):
    failure = Failure.of(reason=reason, message="it is so")
    before = replace(training(), runs=(run(RunState.FAILED),), report=report(failure=failure))
    decision = decide(before, NOW + seconds(50), SETTINGS)
    assert summary(decision) == ("False", word)
    assert decision.status.retries is None
    assert [event.reason.value for event in decision.events] == [word]
    assert reason.hint in decision.events[0].message


def test_a_failure_of_the_cluster_is_retried_after_a_while_from_the_checkpoint():
    saved = report(40, advanced=NOW + seconds(5), checkpoint=checkpoint(25))
    before = replace(training(), runs=(run(RunState.FAILED, message="worker died"),), report=saved)
    waiting = decide(before, NOW + seconds(50), SETTINGS)
    assert summary(waiting) == ("Unknown", "Retrying")
    assert waiting.status.retries.infrastructure == 1
    assert waiting.actions == ()
    assert waiting.again_after == seconds(SETTINGS.backoff_seconds)
    later = with_status(before, waiting.status)
    assert decide(later, NOW + seconds(59), SETTINGS).actions == ()
    again = decide(later, NOW + seconds(60), SETTINGS)
    assert again.actions == (Launch("rex-2"),)
    assert again.status.attempts[-1].start_step == 25
    assert again.status.usage.lost_gpu_seconds > 0


def test_the_wait_doubles_and_the_budget_ends():
    known, at, waits = training(), 100, []
    for number in range(1, 5):
        known = replace(known, runs=(run(RunState.FAILED, name=f"rex-{number}"),), report=None)
        decision = decide(known, NOW + seconds(at), SETTINGS)
        if decision.again_after is not None:
            waits.append(decision.again_after.total_seconds())
            at += int(waits[-1])
        known = with_status(known, decision.status)
        known = after(known, at=at)
        at += 100
    assert waits == [10, 20, 40]
    assert known.job.status.word is Reason.BACKOFF_LIMIT_EXCEEDED
    assert [attempt.name for attempt in known.job.status.attempts] == [
        "rex-1", "rex-2", "rex-3", "rex-4",
    ]  # fmt: skip


def test_preemptions_have_a_budget_of_their_own():
    known = training(runPolicy__backoffLimit=0)
    known = replace(
        known,
        runs=(run(RunState.FAILED),),
        evidence=("PreemptionByScheduler: default-scheduler: preempting to accommodate a pod",),
    )
    decision = decide(known, NOW + seconds(50), SETTINGS)
    assert summary(decision) == ("Unknown", "Preempted")
    assert decision.status.retries.preemptions == 1
    assert decision.status.retries.infrastructure == 0


def test_no_backoff_limit_means_one_attempt():
    known = replace(training(runPolicy__backoffLimit=0), runs=(run(RunState.FAILED),))
    decision = decide(known, NOW + seconds(50), SETTINGS)
    assert summary(decision) == ("False", "BackoffLimitExceeded")
    assert "WorkerDied" in decision.events[0].message


def test_the_next_attempt_waits_for_the_pods_of_the_last():
    known = replace(training(), runs=(run(RunState.FAILED),), pods=(pod(),))
    known = after(known, at=50)
    late = NOW + seconds(500)
    assert decide(known, late, SETTINGS).actions == ()
    assert decide(replace(known, pods=()), late, SETTINGS).actions == (Launch("rex-2"),)


def test_a_pod_that_went_with_its_node_is_not_waited_for_for_ever():
    known = replace(
        training(), runs=(run(RunState.FAILED),), pods=(pod(going_until=NOW + seconds(60)),)
    )
    known = after(known, at=50)
    limit = NOW + seconds(60 + SETTINGS.lost_pod_seconds)
    waiting = decide(known, limit - seconds(1), SETTINGS)
    assert (waiting.actions, waiting.again_after) == ((), seconds(1))
    assert decide(known, limit, SETTINGS).actions == (Launch("rex-2"),)


def test_suspending_stops_the_run_waits_for_its_pods_and_keeps_its_step():
    saved = report(40, advanced=NOW + seconds(5), checkpoint=checkpoint(40), eta_seconds=90)
    known = replace(training(), report=saved, pods=(pod(),))
    known = replace(known, job=replace(known.job, spec=job(runPolicy__suspend=True).spec))
    stopping = decide(known, NOW + seconds(20), SETTINGS)
    assert stopping.actions == (STOP,)
    assert summary(stopping) == ("Unknown", "Suspending")
    going = with_status(known, stopping.status, runs=(run(RunState.STOPPING),))
    assert decide(going, NOW + seconds(30), SETTINGS).actions == ()
    gone = replace(going, runs=(), pods=())
    suspended = decide(gone, NOW + seconds(40), SETTINGS)
    assert condition(suspended, ConditionType.SUSPENDED) == ("True", "Suspended")
    assert (suspended.status.progress.step, suspended.status.progress.eta_seconds) == (40, None)
    assert [event.type.value for event in suspended.events] == ["Normal"]
    resumed = with_status(gone, suspended.status)
    resumed = replace(resumed, job=replace(resumed.job, spec=job().spec))
    again = decide(resumed, NOW + seconds(1000), SETTINGS)
    assert again.actions == (Launch("rex-2"),)
    assert again.status.attempts[-1].start_step == 40
    assert again.status.retries is None


def test_a_job_that_is_created_suspended_starts_nothing():
    decision = decide(observed(runPolicy__suspend=True), NOW, SETTINGS)
    assert (summary(decision), decision.actions) == (("Unknown", "Suspended"), ())
    assert decision.status.attempts == ()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(progress_url=""),
        Settings(launcher=LauncherKind.RAY_JOBS, ray_address="http://ray:8265", progress_url="x"),
    ],
)
def test_where_attempts_cannot_report_the_run_s_own_word_counts(settings):
    opened = decide(observed(), NOW, settings)
    known = with_status(observed(), opened.status, runs=(run(RunState.STARTING),))
    waiting = decide(known, NOW + seconds(5), settings)
    assert summary(waiting if waiting.status else opened) == ("Unknown", "Starting")
    running = decide(replace(known, runs=(run(RunState.RUNNING),)), NOW + seconds(9), settings)
    assert summary(running) == ("Unknown", "Training")
    assert condition(running, ConditionType.STARTED)[0] == "True"


def test_a_stall_ends_the_attempt_not_the_job():
    known = training()
    deadline = NOW + seconds(5 + 600)
    assert decide(known, deadline - seconds(1), SETTINGS).again_after == seconds(1)
    decision = decide(known, deadline, SETTINGS)
    assert decision.actions == (STOP,)
    assert decision.status.attempts[-1].reason is Reason.NO_PROGRESS
    assert condition(decision, ConditionType.STALLED) == ("True", "NoProgress")
    assert summary(decision) == ("Unknown", "Retrying")


def test_a_stall_is_found_after_a_restart_that_forgot_the_report():
    known = replace(training(), report=None)
    assert decide(known, NOW + seconds(604), SETTINGS).actions == ()
    assert decide(known, NOW + seconds(605), SETTINGS).actions == (STOP,)


def test_a_run_that_never_reported_is_not_killed_for_its_silence():
    known = replace(started(), runs=(run(),))
    assert decide(known, NOW + seconds(99999), SETTINGS).actions == ()


def test_the_active_deadline_counts_all_attempts():
    known = training(runPolicy__activeDeadlineSeconds=100)
    assert decide(known, NOW + seconds(90), SETTINGS).again_after == seconds(10)
    known = after(replace(known, runs=(run(RunState.FAILED),)), at=60)
    known = after(replace(known, runs=()), at=80)
    assert decide(known, NOW + seconds(119), SETTINGS).status is None
    decision = decide(replace(known, runs=(run(name="rex-2"),)), NOW + seconds(120), SETTINGS)
    assert summary(decision) == ("False", "DeadlineExceeded")
    assert decision.actions == (Stop("rex-2", "uid-of-rex-2"),)


def test_a_finished_job_goes_after_its_time_to_live():
    known = training(runPolicy__ttlSecondsAfterFinished=60)
    ended = after(replace(known, runs=(run(RunState.SUCCEEDED),)), at=100)
    assert decide(ended, NOW + seconds(130), SETTINGS).again_after == seconds(30)
    assert decide(ended, NOW + seconds(160), SETTINGS).actions == (DeleteJob(),)


def test_the_run_of_a_job_that_is_over_is_stopped_even_if_that_was_missed():
    known = training(runPolicy__activeDeadlineSeconds=100)
    over = after(known, at=200)
    assert over.job.status.is_over
    assert decide(over, NOW + seconds(300), SETTINGS).actions == (STOP,)


def test_a_run_that_somebody_deleted_is_started_anew_when_it_is_gone():
    known = replace(training(), runs=(run(RunState.STOPPING),), pods=(pod(),))
    assert decide(known, NOW + seconds(20), SETTINGS).actions == ()
    known = after(known, at=20, runs=())
    assert decide(known, NOW + seconds(30), SETTINGS).actions == ()
    assert decide(replace(known, pods=()), NOW + seconds(40), SETTINGS).actions == (
        Launch("rex-1"),
    )


def test_a_run_of_an_earlier_job_of_the_same_name_is_waited_for():
    leftover = run(RunState.SUCCEEDED, owner="another-uid")
    decision = decide(observed(runs=(leftover,)), NOW, SETTINGS)
    assert (summary(decision), decision.actions) == (("Unknown", "Pending"), ())
    assert "rex-1 of an earlier job" in decision.status.summary.message


def test_a_lost_status_is_built_up_again_from_what_is_there():
    known = observed(runs=(run(RunState.SUCCEEDED),))
    known = after(known)
    assert summary(decide(known, NOW, SETTINGS)) == ("True", "Completed")


# Writes.


def test_progress_alone_is_written_once_in_ten_seconds():
    known = replace(training(), written=NOW + seconds(5))
    known = replace(known, report=report(11, advanced=NOW + seconds(8)))
    held = decide(known, NOW + seconds(8), SETTINGS)
    assert (held.status, held.again_after) == (None, seconds(7))
    assert decide(known, NOW + seconds(15), SETTINGS).status.progress.step == 11


def test_a_model_is_written_at_once():
    known = replace(training(), written=NOW + seconds(5))
    known = replace(known, report=report(11, advanced=NOW + seconds(8), model=MODEL))
    assert decide(known, NOW + seconds(8), SETTINGS).status.model == MODEL


def test_what_matters_is_written_at_once():
    known = replace(training(), written=NOW + seconds(5), runs=(run(RunState.SUCCEEDED),))
    assert summary(decide(known, NOW + seconds(6), SETTINGS)) == ("True", "Completed")


def test_a_changed_run_policy_is_acknowledged():
    ended = after(replace(training(), runs=(run(RunState.SUCCEEDED),)), at=100)
    ended = replace(ended, job=replace(ended.job, generation=2))
    status = decide(ended, NOW + seconds(200), SETTINGS).status
    assert status.observed_generation == 2
    assert {one.observed_generation for one in status.conditions} == {2}


def test_only_the_last_ten_attempts_are_listed_and_all_are_counted():
    known, at = training(runPolicy__backoffLimit=100), 0
    for number in range(1, 15):
        at += 1000
        known = after(replace(known, runs=(run(RunState.FAILED, name=f"rex-{number}"),)), at=at)
        known = after(replace(known, runs=()), at=at + 500)
    status = known.job.status
    assert len(status.attempts) == 10
    assert status.attempts[-1].name == "rex-15"
    assert status.retries.infrastructure == 14


def test_an_attempt_that_reported_nothing_did_no_step():
    known = after(replace(training(), runs=(run(RunState.FAILED),), report=report(40)), at=50)
    known = after(replace(known, runs=()), at=100)
    ended = after(replace(known, runs=(run(RunState.FAILED, name="rex-2"),)), at=200)
    first, second = ended.job.status.attempts
    assert (first.end_step, second.start_step, second.end_step) == (40, 0, 0)


def test_a_checkpoint_that_could_not_be_written_is_told_until_one_is():
    saved = {"checkpoint": checkpoint(25), "checkpoint_failure": "DiskFull: step 50 was not saved"}
    known = replace(training(), written=NOW + seconds(5))
    known = replace(known, report=report(50, advanced=NOW + seconds(6), **saved))
    decision = decide(known, NOW + seconds(6), SETTINGS)
    assert condition(decision, ConditionType.CHECKPOINTED) == ("False", "CheckpointFailed")
    message = decision.status.condition(ConditionType.CHECKPOINTED).message
    assert message == "DiskFull: step 50 was not saved; step 25 is saved"
    assert [event.reason for event in decision.events] == [Reason.CHECKPOINT_FAILED]
    known = with_status(known, decision.status)
    restarted = replace(known, report=None)
    assert decide(restarted, NOW + seconds(7), SETTINGS).status is None
    better = report(75, advanced=NOW + seconds(30), checkpoint=checkpoint(75))
    healed = decide(replace(known, report=better), NOW + seconds(30), SETTINGS)
    assert condition(healed, ConditionType.CHECKPOINTED) == ("True", "CheckpointWritten")
    assert healed.events == ()


def test_a_namespace_that_is_being_deleted_gets_no_new_attempt():
    known = after(replace(training(), runs=(run(RunState.FAILED),)), at=50)
    decision = decide(replace(known, runs=(), terminating=True), NOW + seconds(100), SETTINGS)
    assert (summary(decision), decision.actions) == (("Unknown", "Deleting"), ())
    assert len(decision.status.attempts) == 1


def test_a_status_names_the_operator_that_wrote_it():
    known = after(observed())
    assert known.job.status.operator == "default/darkroom-operator"


def test_a_job_of_an_operator_that_is_gone_gets_the_name_of_its_new_one():
    status = training().job.status.model_copy(update={"operator": "old/darkroom-operator"})
    decision = decide(with_status(training(), status), NOW + seconds(30), SETTINGS)
    assert decision.status.operator == "default/darkroom-operator"


def test_a_status_from_before_operators_had_names_is_not_written_for_that_alone():
    status = training().job.status.model_copy(update={"operator": None})
    assert decide(with_status(training(), status), NOW + seconds(30), SETTINGS).status is None


def test_a_report_of_an_earlier_attempt_changes_nothing():
    known = after(replace(training(), runs=(run(RunState.FAILED),)), at=50)
    known = after(known, at=100, runs=(run(name="rex-2"),))
    late = replace(known, report=report(99, attempt="rex-1", advanced=NOW + seconds(101)))
    assert decide(late, NOW + seconds(101), SETTINGS).status is None


def test_every_key_is_that_of_the_job():
    assert decide(observed(), NOW, SETTINGS).status.attempts[0].name.startswith(KEY.name)


def test_an_empty_status_is_where_everything_begins():
    assert observed().job.status == PersonalizationJobStatus()
