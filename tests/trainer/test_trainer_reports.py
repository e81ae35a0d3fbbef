"""A snapshot in the words of the API: figures, times, and the checkpoint as it is on the disk."""

from datetime import UTC, datetime

from darkroom_api.artifact import ArtifactKind, ModelManifest, TrainState, content_digest
from darkroom_api.integrity import hash_folder, seal
from darkroom_api.names import VOLUMES_ENV
from darkroom_api.report import Failure, ProgressReport
from darkroom_api.status import Reason
from darkroom_trainer.driver.operator_reports import Reports
from darkroom_trainer.output.checkpoint import checkpoint_folder
from darkroom_trainer.progress.snapshot import Losses, Phase, Progress


class Recorder:
    unwanted = False

    def __init__(self):
        self.told = []

    def close(self, patience_s):
        pass

    def tell(self, report):
        # As it arrives: whatever the operator would refuse fails here.
        self.told.append(ProgressReport.model_validate_json(report.model_dump_json(by_alias=True)))


def snapshot(**changes):
    fixed = {"phase": Phase.TRAINING, "step": 3, "max_steps": 4, "time": datetime.now(UTC)}
    return Progress(**fixed | changes)


def state(step):
    digests = {"spec_digest": "1" * 64, "inputs_digest": "2" * 64}
    return TrainState(step=step, seed=0, world_size=1, zero_stage=2, **digests)


def write_checkpoint(run_folder, step, **more):
    folder = checkpoint_folder(run_folder, step)
    folder.mkdir(parents=True)
    (folder / "file").write_text("x")
    files = hash_folder(folder)
    digest = content_digest(files)
    fields = {"name": "t", "files": files, "digest": digest} | more
    seal(folder, ModelManifest(kind=ArtifactKind.CHECKPOINT, **fields))
    return digest


def test_figures_that_are_no_numbers_are_left_out(make_job, tmp_path):
    client = Recorder()
    losses = Losses(total=1e-7, instance=float("nan"), prior=None)
    Reports(make_job(tmp_path), tmp_path, client).progress(
        snapshot(
            losses=losses,
            grad_norm=float("inf"),
            learning_rate=5e-6,
            loss_scale=2048.0,
            skipped_steps=1,
            eta_seconds=1.2,
        )
    )
    (report,) = client.told
    assert {metric.name: metric.value for metric in report.metrics} == {
        "loss": "1e-07",
        "learning_rate": "5e-06",
        "loss_scale": "2048",
        "skipped_steps": "1",
    }
    assert (report.step, report.max_steps, report.eta_seconds) == (3, 4, 2)


def test_a_checkpoint_is_told_with_its_digest_until_there_is_a_newer_one(
    make_job, tmp_path, monkeypatch
):
    monkeypatch.setenv(VOLUMES_ENV, str(tmp_path))
    run_folder, client = tmp_path / "claim" / "run", Recorder()
    reports = Reports(make_job(tmp_path), run_folder, client)
    digest = write_checkpoint(run_folder, 2)
    reports.progress(snapshot(last_checkpoint_step=2))
    reports.progress(snapshot(last_checkpoint_step=4))  # replaced before it was looked at
    first, second = (report.checkpoint for report in client.told)
    assert (first.step, first.digest) == (2, digest)
    assert first.uri == "pvc://claim/run/checkpoints/step-00000002"
    assert second == first


def test_a_failed_checkpoint_is_told_until_one_is_written(make_job, tmp_path):
    client = Recorder()
    reports = Reports(make_job(tmp_path), tmp_path, client)
    for failure in ("DiskFull: step 2 was not saved", "x" * 5000, None):
        reports.progress(snapshot(checkpoint_failure=failure))
    told = [report.checkpoint_failure for report in client.told]
    assert told == ["DiskFull: step 2 was not saved", "x" * 1024, None]


def test_until_a_run_is_prepared_it_is_at_the_step_of_its_newest_checkpoint(make_job, tmp_path):
    job = make_job(tmp_path)
    for step in (2, 7):
        write_checkpoint(tmp_path, step, name="tiny", state=state(step))
    write_checkpoint(tmp_path, 9, name="other", state=state(9))
    checkpoint_folder(tmp_path, 11).mkdir()
    client = Recorder()
    Reports(job, tmp_path, client).failed(
        Failure(reason=Reason.SOURCE_MISSING, message="spec.baseModel.uri: no such folder")
    )
    (report,) = client.told
    assert (report.start_step, report.step) == (7, 7)
