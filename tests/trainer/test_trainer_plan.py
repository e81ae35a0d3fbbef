"""The plan says what a run will do, and refuses what can't work before anything starts."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_api.status import Reason
from darkroom_trainer.driver.plan import make_plan, predict_peak_memory
from darkroom_trainer.driver.run import RunOptions, prepare
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.inputs.machine import Machine, read_machine
from darkroom_trainer.inputs.photos import load_photos

LAPTOP = Machine(cpus=2, memory_bytes=16 << 30, gpus=0)


@pytest.fixture(scope="module")
def plan_of(tiny_base, tiny_photos):
    base = inspect_base("file:tiny", tiny_base)
    photos = load_photos(tiny_photos, 32)

    def build(job, machine=LAPTOP, ready=0):
        return make_plan(
            job, base, photos, class_images_ready=ready, input_warnings=(), machine=machine
        )

    return build


def test_class_images_that_are_there_need_not_be_made(make_job, plan_of, tmp_path):
    job = make_job(tmp_path)
    assert plan_of(job).class_images_to_make == 8
    assert plan_of(job, ready=8).class_images_to_make == 0


def test_too_many_gpus_are_refused(make_job, plan_of, tmp_path):
    job = make_job(tmp_path, scale={"gpusPerWorker": 1, "workers": 2})
    with pytest.raises(TrainerError, match="the job needs 2 GPUs and this machine has 0"):
        plan_of(job)


def test_one_of_a_kind_is_said_in_the_singular(make_job, plan_of, tmp_path):
    with pytest.raises(TrainerError, match="the job needs 1 GPU and this machine has 0"):
        plan_of(make_job(tmp_path, scale={"gpusPerWorker": 1}))
    one = dataclasses.replace(LAPTOP, cpus=1)
    assert (
        "2 workers share 1 CPU core"
        in plan_of(make_job(tmp_path, scale={"workers": 2}), one).warnings
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"baseModel": {"uri": "gs://bucket/sd"}},
            "spec.baseModel.uri: gs://bucket/sd is not available yet; copy it to a volume",
        ),
        (
            {"output": {"uri": "s3://bucket/models"}},
            "spec.output.uri: s3://bucket/models is not available yet; use pvc://CLAIM/path",
        ),
    ],
)
@pytest.mark.parametrize("accepted", [False, True])
def test_what_this_version_lacks_is_refused_before_anything_else(
    make_job, tmp_path, changes, message, accepted
):
    job = make_job(tmp_path, **{"baseModel": {"uri": "file:absent"}, **changes})
    options = RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work", accepted=accepted)
    with pytest.raises(TrainerError, match=re.escape(message)):
        prepare(job, options)


def test_an_ended_consent_is_refused_unless_an_operator_accepted_the_job(make_job, tmp_path):
    consent = {"recordRef": {"name": "ada"}, "expires": "2020-01-01T00:00:00Z"}
    job = make_job(tmp_path, subject={"kind": "Person", "classNoun": "woman", "consent": consent})
    options = RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work")
    with pytest.raises(TrainerError, match="the consent ended at 2020-01-01T00:00:00Z") as caught:
        prepare(job, options)
    assert caught.value.reason is Reason.CONSENT_EXPIRED
    assert prepare(job, dataclasses.replace(options, accepted=True)).plan.steps == 4


def test_little_memory_many_workers_and_rare_checkpoints_are_warned_about(
    make_job, plan_of, tmp_path
):
    job = make_job(tmp_path, scale={"workers": 3}, checkpoint={"everySteps": 50})
    warnings = plan_of(job, dataclasses.replace(LAPTOP, memory_bytes=1 << 20)).warnings
    assert any("GiB are free: use fewer workers" in warning for warning in warnings)
    assert "3 workers share 2 CPU cores" in warnings
    assert any("a crash loses the whole run" in warning for warning in warnings)


@given(workers=st.integers(1, 8), stage=st.integers(0, 2))
def test_a_higher_zero_stage_never_needs_more_memory(
    make_job, tiny_base, tmp_path_factory, workers, stage
):
    base = inspect_base("file:tiny", tiny_base)
    lower, higher = (
        predict_peak_memory(
            make_job(tmp_path_factory.getbasetemp(), scale={"workers": workers, "zeroStage": zero}),
            base,
        )
        for zero in (stage, stage + 1)
    )
    assert higher <= lower


def test_this_machine_can_be_read():
    machine = read_machine()
    assert machine.cpus >= 1
    assert machine.memory_bytes > 1 << 20
