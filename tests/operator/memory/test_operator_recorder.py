"""What became of jobs, as the metrics tell it."""

from darkroom_testing.in_memory.builders import KEY
from darkroom_testing.in_memory.fake_world import Rig

NAMES = {"namespace": KEY.namespace, "job": KEY.name}


def finished(rig):
    """Outcome and reason of the jobs that are counted as over."""
    families = {family.name: family for family in rig.metrics.registry.collect()}
    return [
        (sample.labels["outcome"], sample.labels["reason"], sample.value)
        for sample in families["darkroom_jobs_finished"].samples
        if sample.name.endswith("_total")
    ]


def training():
    rig = Rig()
    rig.api.make_job()
    rig.hold = True
    rig.until(lambda rig: rig.word() == "Training")
    return rig


def test_a_job_that_succeeds_is_counted_once():
    rig = training()
    assert rig.metrics.registry.get_sample_value("darkroom_job_progress_ratio", NAMES) is not None
    rig.hold = False
    rig.until(lambda rig: rig.word() == "Completed")
    rig.operate()
    assert finished(rig) == [("succeeded", "Completed", 1)]
    assert rig.metrics.registry.get_sample_value("darkroom_job_progress_ratio", NAMES) is None


def test_a_job_that_is_deleted_before_its_end_is_cancelled():
    rig = training()
    uid = rig.api.job()["metadata"]["uid"]
    rig.api.delete(("personalizationjobs", KEY.namespace, KEY.name), uid)
    rig.until(lambda rig: rig.api.job() is None)
    rig.operate()
    assert finished(rig) == [("cancelled", "Training", 1)]


def test_a_job_that_is_deleted_after_its_end_is_counted_no_more():
    rig = training()
    rig.hold = False
    rig.until(lambda rig: rig.word() == "Completed")
    uid = rig.api.job()["metadata"]["uid"]
    rig.api.delete(("personalizationjobs", KEY.namespace, KEY.name), uid)
    rig.operate()
    assert finished(rig) == [("succeeded", "Completed", 1)]
