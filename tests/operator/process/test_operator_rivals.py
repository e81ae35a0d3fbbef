"""Two operators with Leases of their own over one namespace: each job is run by one, and the younger waits."""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from darkroom_testing.in_memory.builders import KEY, SETTINGS
from darkroom_testing.in_memory.fake_api import Answer
from darkroom_testing.in_memory.fake_world import RUNNER, Rig

ELDER = replace(SETTINGS, pod_namespace="one", lease_name="darkroom")
YOUNGER = replace(SETTINGS, pod_namespace="two", lease_name="darkroom")


class Leases:
    """The Leases of both operators: whoever lives renews."""

    def __init__(self, api):
        self.api = api
        for number, settings in enumerate((ELDER, YOUNGER)):
            created = f"2026-11-25T11:00:0{number}Z"
            self.api.store(
                ("leases", settings.pod_namespace, "darkroom"),
                {
                    "metadata": {"name": "darkroom", "creationTimestamp": created},
                    "spec": {"holderIdentity": "a-pod", "leaseDurationSeconds": 13},
                },
            )

    def renew(self, *settings):
        for one in settings:
            key = ("leases", one.pod_namespace, "darkroom")
            self.api.store(key, self.api.objects[key])

    def release(self, settings):
        key = ("leases", settings.pod_namespace, "darkroom")
        self.api.objects[key]["spec"]["holderIdentity"] = ""
        self.renew(settings)


@pytest.fixture
def both():
    elder = Rig(settings=ELDER)
    return elder, Rig(api=elder.api, settings=YOUNGER), Leases(elder.api)


def pass_time(rigs, seconds, renewing=lambda: None):
    """Lets both operators look every five seconds."""
    for _ in range(0, seconds, 5):
        renewing()
        for rig in rigs:
            rig.now += timedelta(seconds=5)
            rig.operate()


def look_at(rig):
    """One look; when to look again, in seconds."""
    rig.watch()
    return RUNNER.run(rig.reconciler.reconcile(KEY))


def test_a_job_is_left_to_the_operator_whose_name_is_in_its_status(both, caplog):
    elder, younger, leases = both
    elder.api.make_job()
    younger.operate()
    writes = elder.api.writes
    with caplog.at_level(logging.WARNING):
        pass_time([elder], 60, lambda: leases.renew(ELDER, YOUNGER))
    assert elder.api.writes == writes
    assert elder.job().status.operator == "two/darkroom"
    said = [one for one in caplog.messages if "two/darkroom" in one]
    assert len(said) == 1
    assert "stands by" in said[0]


def test_of_two_operators_that_see_a_new_job_one_begins_it(both):
    elder, younger, _ = both
    elder.api.make_job()
    younger.watch()
    elder.operate()
    RUNNER.run(younger.syncer.sync())
    assert look_at(younger) > 0
    assert younger.job().status.operator == "one/darkroom"
    assert len(elder.api.all("rayjobs")) == 1


def test_the_operator_of_the_younger_lease_begins_no_job_where_the_other_works(both):
    elder, younger, leases = both
    elder.api.make_job()
    elder.until(lambda rig: rig.word() == "Completed")
    leases.renew(ELDER, YOUNGER)
    over = elder.api.objects.pop(("personalizationjobs", "default", "rex"))
    other = {**over, "metadata": {**over["metadata"], "name": "over", "uid": "over"}}
    elder.api.store(("personalizationjobs", "default", "over"), other)
    elder.api.objects = {
        key: one for key, one in elder.api.objects.items() if key[0] in ("leases", "personalizationjobs")
    }  # fmt: skip
    elder.api.make_job(uid="new")
    look_at(younger)
    assert younger.job().status.operator is None
    look_at(elder)
    assert elder.job().status.operator == "one/darkroom"


@pytest.mark.parametrize("how", ["released", "expired", "gone"])
def test_the_jobs_of_an_operator_that_is_gone_are_taken_over(both, how):
    elder, younger, leases = both
    elder.api.make_job()
    elder.hold = True
    elder.until(lambda rig: rig.word() == "Training")
    younger.now = elder.now
    if how == "released":
        leases.release(ELDER)
    elif how == "gone":
        elder.api.objects.pop(("leases", "one", "darkroom"))
    elder.api.edit_policy(suspend=True)
    pass_time([younger], 30, lambda: leases.renew(YOUNGER))
    assert younger.job().status.operator == "two/darkroom"
    assert younger.word() == "Suspending"


def test_an_operator_whose_lease_cannot_be_read_counts_as_alive(both, monkeypatch, caplog):
    elder, younger, _ = both
    elder.api.make_job()
    elder.operate()
    read = elder.api.read
    forbidden = Answer(403, {"kind": "Status", "message": "no right", "details": {}})
    monkeypatch.setattr(
        elder.api, "read", lambda path, query: forbidden if "leases" in path else read(path, query)
    )
    elder.api.edit_policy(suspend=True)
    with caplog.at_level(logging.WARNING):
        pass_time([younger], 60)
    assert younger.word() == "Starting"
    assert len([one for one in caplog.messages if "can't be read" in one]) == 1
