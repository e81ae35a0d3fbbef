"""The plan of a job that was begun or finished says what is left; the same numbers are the same job."""

import json

import pytest
from rich.console import Console

from darkroom.plan_view import plan_json, plan_table
from darkroom_api.artifact import TrainState
from darkroom_api.crd import job_schema
from darkroom_api.fields import DECIMAL_PATTERN
from darkroom_api.registry import load_verified
from darkroom_api.run_layout import CHECKPOINTS
from darkroom_trainer.driver.disk import bytes_below, loads
from darkroom_trainer.driver.ray_run import RayRun
from darkroom_trainer.driver.run import RunOptions, prepare, run_prepared
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.photos import load_photos
from darkroom_trainer.output import checkpoint
from darkroom_trainer.output.export import export_model
from darkroom_trainer.status import RunStatus


@pytest.fixture
def planned(tmp_path):
    def run(job):
        return prepare(job, RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work"))

    return run


@pytest.fixture
def trained_to(planned):
    """Leaves a checkpoint of a step as a run of the job does."""

    def write(job, step, spell=dict):
        task, spec = planned(job).task, job.spec
        partial = checkpoint.partial_folder(task.run_folder)
        checkpoint.begin_checkpoint(partial, spec)
        file = partial / checkpoint.NUMERICS_FILE
        file.write_text(json.dumps(spell(json.loads(file.read_text()))))
        state = TrainState(
            step=step,
            seed=spec.training.seed,
            world_size=1,
            zero_stage=spec.scale.zero_stage,
            spec_digest="0" * 64 if spell is not dict else checkpoint.numerics_digest(spec),
            inputs_digest=task.inputs_digest(
                load_photos(task.photos_folder, spec.training.resolution)
            ),
        )
        checkpoint.finish_checkpoint(partial, job.metadata, state, keep=3)

    return write


def published(job, base, root):
    return export_model(job, base, {}, root=root, steps=4, created="2026-11-26T00:00:00Z").digest


def shown(prepared):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(plan_table(prepared))
    return captured.get()


def test_a_job_that_was_begun_has_the_rest_to_do(make_job, tmp_path, planned, trained_to):
    job = make_job(tmp_path)
    fresh = planned(job)
    assert fresh.plan.steps_left == fresh.plan.steps == 4
    trained_to(job, 2)
    resumed = planned(job)
    assert (resumed.resumed_from, resumed.plan.steps_left) == (2, 2)
    assert resumed.plan.estimated_seconds < fresh.plan.estimated_seconds
    assert "; 2 left, from step 2 on" in shown(resumed)
    assert plan_json(resumed)["steps_left"] == 2


def test_checkpoints_that_are_there_already_need_no_more_room(
    make_job, tmp_path, planned, trained_to
):
    job = make_job(tmp_path, training={"maxSteps": 20}, checkpoint={"everySteps": 2, "keep": 2})
    fresh = planned(job)
    assert fresh.plan.checkpoints_more == 3  # two to keep, and one more while it is written
    trained_to(job, 2)
    assert planned(job).plan.checkpoints_more == 2
    trained_to(job, 4)
    assert planned(job).plan.checkpoints_more == 1

    task = planned(job).task
    (of_resumed, *_), (of_restarted, *_) = (
        loads(task, fresh.plan, restart=restart) for restart in (False, True)
    )
    freed = bytes_below(task.run_folder / CHECKPOINTS)
    assert of_resumed.size_bytes - of_restarted.size_bytes == freed > 0


def test_a_finished_job_has_nothing_to_do_and_names_its_model(
    make_job, tmp_path, planned, trained_to
):
    job = make_job(tmp_path)
    trained_to(job, 4)
    unpublished = planned(job)
    assert (unpublished.plan.steps_left, unpublished.published) == (0, None)
    digest = published(job, unpublished.task.base, tmp_path / "models")
    assert planned(job).published == digest
    assert f"{digest}: there is nothing left to train" in shown(planned(job))
    assert plan_json(planned(job))["published"] == digest


class NeverStarted(RayRun):
    """A Ray that no run may ask for."""

    def __enter__(self):
        raise AssertionError("something was started")


def test_a_job_whose_model_is_published_is_over_at_once_unless_the_model_is_damaged(
    make_job, tmp_path, planned, trained_to
):
    job = make_job(tmp_path)
    trained_to(job, 4)
    digest = published(job, planned(job).task.base, tmp_path / "models")
    result = run_prepared(planned(job), NeverStarted(), lambda progress: None)
    assert (result.status, result.steps) == (RunStatus.FINISHED, 4)
    assert load_verified(result.entry).digest == digest
    with (result.entry.folder / "unet" / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(AssertionError, match="something was started"):
        run_prepared(planned(job), NeverStarted(), lambda progress: None)


def test_a_model_of_another_job_is_not_the_one_of_this(make_job, tmp_path, planned, trained_to):
    job = make_job(tmp_path)
    trained_to(job, 4)
    published(make_job(tmp_path, training={"seed": 7}), planned(job).task.base, tmp_path / "models")
    assert planned(job).published is None
    published(job, planned(job).task.base, tmp_path / "models")
    assert planned(make_job(tmp_path, output={"precision": "FP16"})).published is None


@pytest.mark.parametrize("spelt", ["0.001", "1.0e-3", "1E-3", "0.0010"])
def test_a_number_that_is_spelt_in_another_way_is_the_same_training(
    make_job, tmp_path, planned, trained_to, spelt
):
    trained_to(make_job(tmp_path, training={"learningRate": "1e-3"}), 2)
    again = make_job(tmp_path, training={"learningRate": spelt})
    assert planned(again).resumed_from == 2
    with pytest.raises(TrainerError, match=r"trained with 0\.001 and the job says 0\.002"):
        planned(make_job(tmp_path, training={"learningRate": "2e-3"}))


def test_a_checkpoint_of_an_earlier_version_has_its_numbers_as_text_and_is_gone_on_from(
    make_job, tmp_path, planned, trained_to
):
    job = make_job(tmp_path)
    trained_to(job, 2, lambda fields: fields | {"training.learningRate": "0.001"})
    assert planned(job).resumed_from == 2
    with pytest.raises(TrainerError, match=r"^spec\.training\.learningRate: "):
        planned(make_job(tmp_path, training={"learningRate": "2e-3"}))


def test_a_style_that_was_trained_as_a_thing_is_another_training(
    make_job, tmp_path, planned, trained_to
):
    style = make_job(tmp_path, subject={"kind": "Style"})
    trained_to(style, 2, lambda fields: {k: fields[k] for k in fields if k != "subject.kind"})
    with pytest.raises(TrainerError, match=r"^spec\.subject\.kind: .* and the job says 'Style'"):
        planned(style)
    trained_to(make_job(tmp_path, name="thing"), 2)
    assert planned(make_job(tmp_path, name="thing", subject={"kind": "Object"})).resumed_from == 2


def decimals_in(schema, path=()):
    """Where a schema has decimal numbers, as paths."""
    for name, field in schema.get("properties", {}).items():
        if field.get("pattern") == DECIMAL_PATTERN:
            yield ".".join((*path, name))
        yield from decimals_in(field, (*path, name))


def test_every_decimal_number_that_fixes_a_training_is_compared_as_a_number(make_job, tmp_path):
    decimals = set(decimals_in(job_schema()["properties"]["spec"]))
    given = {"maxGradNorm": "2", "noiseOffset": "0.1", "snrGamma": "5"}
    given |= {"textEncoderLearningRate": "1e-4", "newTokens": {"learningRate": "5e-3"}}
    given |= {"ema": {"decay": "0.999"}}
    subject = {"identifier": "<sks>"}
    job = make_job(tmp_path, subject=subject, training=given | {"method": "LoRA"})
    assert decimals & checkpoint.numerics(job.spec).keys() == set(checkpoint.DECIMALS)
