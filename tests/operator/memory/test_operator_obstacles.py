"""What stands in a job's way is told and left alone, and what is mended lets the job go on."""

import copy
from dataclasses import replace
from datetime import timedelta

import pytest

from darkroom_operator.workqueue import RetryError
from darkroom_testing.in_memory.builders import KEY
from darkroom_testing.in_memory.fake_world import RUNNER, Rig


def delete(rig):
    """As a user does, and as a namespace that goes."""
    job = rig.api.job()
    rig.api.delete(("personalizationjobs", "default", "rex"), job["metadata"]["uid"])


@pytest.mark.parametrize("plural", ["configmaps", "networkpolicies", "poddisruptionbudgets"])
def test_a_child_s_name_that_is_taken_is_told_and_what_has_it_stays_as_it_is(plural):
    rig = Rig()
    rig.api.make_job()
    rig.api.create((plural, "default", "rex-darkroom"), {"metadata": {"name": "rex-darkroom"}})
    before = copy.deepcopy(rig.api.objects[plural, "default", "rex-darkroom"])
    rig.until(lambda rig: rig.word() == "NameTaken")
    assert "rex-darkroom is in the way" in rig.api.all("events")[0]["note"]
    assert rig.api.objects[plural, "default", "rex-darkroom"] == before
    delete(rig)
    assert rig.api.objects[plural, "default", "rex-darkroom"] == before


def test_what_an_event_says_of_a_pod_that_does_not_start_is_in_the_status():
    rig = Rig()
    rig.api.make_job()
    rig.operate()
    labels = {"darkroom.dev/job": "rex", "darkroom.dev/attempt": "rex-1"}
    metadata = {"name": "rex-1-head", "namespace": "default", "labels": labels}
    pod = {"metadata": metadata, "status": {"phase": "Pending"}}
    rig.api.create(("pods", "default", "rex-1-head"), pod)
    rig.api.warnings["rex-1-head"] = ['MountVolume.SetUp failed: secret "hf" not found']
    rig.now += timedelta(seconds=rig.settings.trouble_seconds)
    rig.operate()
    assert rig.word() == "VolumeMissing"


def test_what_an_event_says_where_there_are_no_pods_is_in_the_status():
    rig = Rig()
    rig.api.make_job()
    rig.operate()
    rig.api.warnings["rex-1"] = ["services is forbidden: exceeded quota: services"]
    rig.now += timedelta(seconds=rig.settings.trouble_seconds)
    rig.operate()
    assert rig.word() == "PodsRefused"


def test_an_attempt_that_waits_is_made_anew_with_the_image_that_was_corrected():
    rig = Rig()
    rig.api.make_job()
    rig.operate()
    first = rig.api.all("rayjobs")[0]["metadata"]["uid"]
    rig.settings = replace(rig.settings, trainer_image="example.org/corrected:1")
    rig.start_operator()
    rig.until(lambda rig: rig.api.all("rayjobs")[:1] and rig.word() == "Training")
    (ray_job,) = rig.api.all("rayjobs")
    assert ray_job["metadata"]["uid"] != first
    assert "example.org/corrected:1" in str(ray_job["spec"])
    assert [one.name for one in rig.job().status.attempts] == ["rex-1"]


def test_an_attempt_that_began_just_before_it_was_to_be_made_anew_goes_on():
    rig = Rig()
    rig.api.make_job()
    rig.operate()
    rig.settings = replace(rig.settings, trainer_image="example.org/corrected:1")
    rig.start_operator()
    rig.watch()
    before = rig.api.all("rayjobs")[0]["metadata"]["uid"]
    rig.api.set_status("rayjobs", "rex-1", jobDeploymentStatus="Running", jobStatus="RUNNING")
    with pytest.raises(RetryError):
        RUNNER.run(rig.reconciler.reconcile(KEY))
    rig.until(lambda rig: rig.word() == "Training")
    assert rig.api.all("rayjobs")[0]["metadata"]["uid"] == before


def test_a_namespace_that_goes_takes_a_job_with_its_model_along():
    rig = Rig()
    rig.api.make_job(output__deletionPolicy="Delete")
    rig.until(lambda rig: rig.word() == "Training")
    rig.api.terminating = True
    delete(rig)
    rig.operate()
    assert rig.api.job() is None


def test_a_job_of_a_namespace_that_goes_opens_no_attempt():
    rig = Rig()
    rig.fails.append("worker died")
    rig.api.make_job()
    rig.until(lambda rig: rig.word() == "Retrying")
    rig.api.terminating = True
    rig.until(lambda rig: rig.word() == "Deleting")
    assert [one.name for one in rig.job().status.attempts] == ["rex-1"]


def test_a_removal_that_fails_for_ever_is_told_and_keeping_the_model_is_the_way_out():
    rig = Rig()
    rig.api.make_job(output__deletionPolicy="Delete")
    rig.until(lambda rig: rig.word() == "Completed")
    rig.cleanups_fail = True
    delete(rig)
    rig.until(lambda rig: rig.word() == "CleanupFailed")
    names = [one["metadata"]["name"] for one in rig.api.all("jobs")]
    assert names == ["rex-cleanup", "rex-cleanup-2", "rex-cleanup-3"]
    writes = rig.api.writes
    rig.now += timedelta(hours=1)
    rig.operate()
    assert rig.api.writes == writes
    kept = copy.deepcopy(rig.api.job())
    kept["spec"]["output"]["deletionPolicy"] = "Retain"
    rig.api.store(("personalizationjobs", "default", "rex"), kept)
    rig.operate()
    assert rig.api.job() is None
