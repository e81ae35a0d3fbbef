"""Every write of every life cycle: the operator is killed before and after it, and it fails in every way.

Whatever happens, it ends as if nothing had: the same status, the same objects, no run twice.
"""

from datetime import timedelta

import aiohttp
import pytest

from darkroom_api.status import Reason
from darkroom_operator.workqueue import RetryError
from darkroom_testing.in_memory.builders import KEY
from darkroom_testing.in_memory.fake_api import Answer, FakeApi, Killed, failure
from darkroom_testing.in_memory.fake_world import RUNNER, STEP, Rig, sync

WORDS = "darkroom: WorkerDied: a training worker died"


def train(rig):
    """Until the status says so, however long that takes."""
    rig.hold = True
    rig.until(lambda rig: rig.word() == "Training")
    rig.hold = False


def succeed(rig):
    rig.api.make_job()
    rig.until(lambda rig: rig.word() == "Completed")


def fail_and_retry(rig):
    rig.api.make_job()
    rig.fails = [WORDS]
    train(rig)
    rig.until(lambda rig: rig.word() == "Completed")


def fail_for_good(rig):
    rig.api.make_job()
    rig.fails = ["darkroom: TooFewPhotos: at least 3 photos are needed"]
    train(rig)
    rig.until(lambda rig: rig.word() == "TooFewPhotos")


def suspend_and_resume(rig):
    rig.api.make_job()
    train(rig)
    rig.hold = True
    rig.api.edit_policy(suspend=True)
    rig.until(lambda rig: rig.word() == "Suspended")
    rig.hold = False
    rig.api.edit_policy(suspend=False)
    rig.until(lambda rig: rig.word() == "Completed")


def delete_in_the_midst(rig):
    rig.api.make_job()
    train(rig)
    delete(rig)
    rig.until(lambda rig: rig.api.job() is None and not rig.api.all("rayjobs"))


def delete_with_its_model(rig):
    rig.api.make_job(output__deletionPolicy="Delete")
    rig.until(lambda rig: rig.word() == "Completed")
    delete(rig)
    rig.until(lambda rig: rig.api.job() is None)


def live_its_time(rig):
    rig.api.make_job(runPolicy__ttlSecondsAfterFinished=60)
    rig.until(lambda rig: rig.word() == "Completed")
    rig.until(lambda rig: rig.api.job() is None)


def delete(rig):
    job = rig.api.job()
    rig.api.delete(("personalizationjobs", KEY.namespace, KEY.name), job["metadata"]["uid"])


LIVES = (
    succeed,
    fail_and_retry,
    fail_for_good,
    suspend_and_resume,
    delete_in_the_midst,
    delete_with_its_model,
    live_its_time,
)
FAULTS = {
    "409": lambda: failure(409, "the object has been modified", name=KEY.name),
    "410": lambda: failure(410, "too old resource version"),
    "422": lambda: failure(422, "is invalid", name=KEY.name),
    "429": lambda: Answer(429, "slow down", {"Retry-After": "2"}),
    "500": lambda: failure(500, "etcdserver: request timed out"),
    "timeout": TimeoutError,
    "dropped": aiohttp.ServerDisconnectedError,
}


@pytest.fixture(scope="module", params=LIVES, ids=lambda life: life.__name__)
def life(request):
    """A life cycle, its undisturbed end and its number of writes."""
    rig = Rig()
    request.param(rig)
    return request.param, rig.end_state(), rig.api.writes


def disturbed(live, number, *, before=None, after=None):
    """The end of a life whose nth write is disturbed."""
    api = FakeApi()
    once = lambda what: lambda at, method, path: what() if at == number and what else None  # noqa: E731
    api.before, api.after = once(before), once(after)
    rig = Rig(api)
    live(rig)
    return rig


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_write_changes_nothing(life, when):
    live, expected, writes = life
    for number in range(1, writes + 1):
        rig = disturbed(live, number, **{when: Killed})
        assert rig.kills == 1
        assert rig.end_state() == expected, f"write {number}"
        assert_no_run_twice(rig)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_at_any_write_changes_nothing(life, fault):
    live, expected, writes = life
    for number in range(1, writes + 1):
        rig = disturbed(live, number, before=FAULTS[fault])
        assert rig.end_state() == expected, f"write {number}"
        assert_no_run_twice(rig)


@pytest.mark.parametrize("fault", ["timeout", "dropped"])
def test_an_answer_that_is_lost_after_any_write_changes_nothing(life, fault):
    live, expected, writes = life
    for number in range(1, writes + 1):
        rig = disturbed(live, number, after=FAULTS[fault])
        assert rig.end_state() == expected, f"write {number}"
        assert_no_run_twice(rig)


def assert_no_run_twice(rig):
    """A RayJob is made once: the second apply of one that is there makes no second uid."""
    names = [found["metadata"]["name"] for found in rig.api.all("rayjobs")]
    assert len(names) == len(set(names))
    if rig.api.job() is not None:
        attempts = rig.job().status.attempts
        assert names == [one.name for one in attempts if one.reason is not Reason.SUSPENDED]


def test_a_successful_job_takes_six_writes_besides_its_progress():
    rig = Rig()
    succeed(rig)
    writes = [(method, path.rsplit("/", 2)) for method, path in rig.api.calls if method != "GET"]
    statuses = [path for method, path in rig.api.calls if path.endswith("/status")]
    children = [path for _, path in writes if path[-1] != "status"]
    assert len(children) == 4
    reports = rig.job().status.progress.max_steps // STEP
    assert len(statuses) <= 2 + reports


def test_a_settled_job_takes_no_write_however_often_it_is_looked_at():
    rig = Rig()
    succeed(rig)
    before = rig.api.writes
    for _ in range(5):
        rig.operate()
        assert sync(rig)
    rig.start_operator()
    assert sync(rig)
    rig.operate()
    assert rig.api.writes == before


def test_an_operator_that_is_replaced_at_every_moment_comes_to_the_same_end():
    rig = Rig()
    rig.api.make_job()
    for _ in range(60):
        rig.operate()
        rig.world()
        rig.start_operator()
        rig.now += timedelta(seconds=15)
    assert rig.word() == "Completed"
    assert [one.name for one in rig.job().status.attempts] == ["rex-1"]


def test_kuberay_that_comes_later_is_found_without_a_restart():
    rig = Rig()
    rig.api.kuberay = False
    rig.api.make_job()
    rig.until(lambda rig: rig.word() == "KubeRayMissing")
    rig.api.kuberay = True
    rig.until(lambda rig: rig.word() == "Completed")


def test_a_ray_job_that_somebody_else_made_is_left_alone():
    rig = Rig()
    rig.api.make_job()
    foreign = {
        "metadata": {"name": "rex-1", "namespace": "default"},
        "spec": {"entrypoint": "theirs"},
    }
    rig.api.create(("rayjobs", "default", "rex-1"), foreign)
    rig.until(lambda rig: rig.word() == "NameTaken")
    assert rig.api.objects["rayjobs", "default", "rex-1"]["spec"] == {"entrypoint": "theirs"}


def test_a_watch_that_missed_a_deletion_is_healed_by_the_next_comparison():
    rig = Rig()
    rig.api.make_job()
    rig.until(lambda rig: rig.word() == "Training")
    rig.api.edit_policy(suspend=True)
    rig.operate()
    rig.api.release("rayjobs", "rex-1")
    assert rig.store.observe(KEY).runs
    assert sync(rig)
    assert rig.store.observe(KEY).runs == ()
    rig.until(lambda rig: rig.word() == "Suspended")


def test_a_decision_on_old_news_is_refused_and_made_anew():
    rig = Rig()
    rig.api.make_job()
    rig.watch()
    rig.api.edit_policy(suspend=True)
    rig.watch = lambda: None
    rig.operate()
    assert rig.word() == "Suspended"
    assert rig.api.all("rayjobs") == []


def test_a_launch_is_not_repeated_for_a_job_that_is_gone():
    """It was carried out, but its answer was lost; meanwhile the job was deleted, with its run."""
    rig = Rig()
    rig.api.make_job()
    rig.api.after = lambda number, method, path: (
        aiohttp.ServerDisconnectedError() if path.endswith("/rayjobs") else None
    )
    rig.watch()
    with pytest.raises(RetryError):
        RUNNER.run(rig.reconciler.reconcile(KEY))
    delete(rig)
    rig.api.objects.clear()  # garbage collection
    RUNNER.run(rig.reconciler.reconcile(KEY))
    assert rig.api.objects == {}
    assert rig.store.observe(KEY) is None


def test_an_event_is_told_once():
    rig = Rig()
    fail_and_retry(rig)
    assert [event["reason"] for event in rig.api.all("events")] == ["Retrying"]
