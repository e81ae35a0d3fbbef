"""Progress is readable by programs at any moment: as a file, and as Prometheus metrics."""

import errno
import socket
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from darkroom_api.run_layout import PROGRESS_FILE
from darkroom_trainer.driver.log_lines import ProgressLog
from darkroom_trainer.driver.run import RunOptions, prepare
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.progress.prometheus import MetricsServer
from darkroom_trainer.progress.rank0 import Reporter
from darkroom_trainer.progress.snapshot import (
    Losses,
    Phase,
    ProgressWriter,
    read_progress,
)
from darkroom_trainer.progress.trackers import LOG_EVERY, Trackers

LOSSES = Losses(total=0.5, instance=0.3, prior=0.2)


@pytest.fixture
def writer(tmp_path):
    return ProgressWriter(tmp_path / "progress.json", max_steps=10)


def test_a_snapshot_is_whole_or_not_there(tmp_path, writer):
    path = tmp_path / "progress.json"
    assert read_progress(path).phase is Phase.STARTING
    path.write_bytes(path.read_bytes()[:20])
    assert read_progress(path) is None
    assert read_progress(tmp_path / "absent.json") is None


def test_steps_carry_losses_and_a_time_to_the_end(writer):
    for step in (1, 2, 3):
        writer.step(step, losses=LOSSES, images=8, learning_rate=1e-4, grad_norm=1.0)
    latest = writer.latest
    assert (latest.step, latest.max_steps, latest.losses) == (3, 10, LOSSES)
    assert latest.eta_seconds > 0
    assert latest.images_per_second > 0


def test_a_clock_that_jumps_backwards_changes_no_rate_and_hides_no_step(
    tmp_path, writer, monkeypatch
):
    times = iter(datetime(2026, 1, 30 - day, tzinfo=UTC) for day in range(29))
    backwards = SimpleNamespace(now=lambda zone: next(times))
    monkeypatch.setattr("darkroom_trainer.progress.snapshot.datetime", backwards)
    for step in (1, 2, 3):
        writer.step(step, losses=LOSSES, images=8, learning_rate=1e-4, grad_norm=1.0)
    writer.checkpointed(3)
    found = read_progress(tmp_path / "progress.json")
    assert (found.step, found.last_checkpoint_step) == (3, 3)
    assert found.eta_seconds > 0
    assert found.images_per_second > 0


def test_class_images_are_counted(writer):
    writer.reuse_class_images(24)
    writer.enter(Phase.CLASS_IMAGES, total=16)
    writer.advance(8)
    writer.advance(16)
    assert (writer.latest.class_images_reused, writer.latest.class_images_made) == (24, 16)


def test_a_failed_checkpoint_is_told_until_one_is_written_and_stays_in_the_history(writer):
    writer.not_checkpointed(2, "DiskFull")
    assert writer.latest.checkpoint_failure == "DiskFull: step 2 was not saved"
    writer.not_checkpointed(4, "WriteFailed: [Errno 13] Permission denied")
    assert "Errno 13" in writer.latest.checkpoint_failure
    writer.checkpointed(6)
    assert writer.latest.checkpoint_failure is None
    assert [text.partition(":")[0] for text in writer.latest.conditions] == [
        "CheckpointFailed/DiskFull",
        "CheckpointFailed/WriteFailed",
    ]


def test_the_last_step_of_a_run_that_fails_is_told(make_job, tmp_path):
    job, options = make_job(tmp_path), RunOptions(job_folder=tmp_path, work_dir=tmp_path)
    task = prepare(job, options).task
    task.run_folder.mkdir(parents=True)

    def train():
        with Reporter(task, rank=0) as reporter:
            for step in (1, 2, 3):  # faster than snapshots are written
                reporter.step(step, LOSSES, grad_norm=1.0, learning_rate=1e-3)
            raise RuntimeError("NCCL error")

    with pytest.raises(RuntimeError):
        train()
    assert read_progress(task.run_folder / PROGRESS_FILE).step == 3


def test_a_resumed_training_starts_and_goes_on_at_its_step(tmp_path):
    writer = ProgressWriter(tmp_path / "progress.json", max_steps=10, step=6)
    writer.enter(Phase.CHECKPOINTING)
    writer.enter(Phase.TRAINING, total=10)
    found = read_progress(tmp_path / "progress.json")
    assert (found.step, found.done, found.total) == (6, 6, 10)


def test_a_snapshot_that_finds_no_room_does_not_end_the_run(tmp_path, writer, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        writer.enter(Phase.CACHING)
    assert read_progress(tmp_path / "progress.json").phase is Phase.STARTING
    writer.enter(Phase.CACHING)
    assert read_progress(tmp_path / "progress.json").phase is Phase.CACHING


def test_trackers_log_both_losses_for_tensorboard(make_job, tmp_path):
    trackers = Trackers(make_job(tmp_path), tmp_path)
    trackers.log(LOG_EVERY, LOSSES, learning_rate=1e-4, grad_norm=1.0)
    trackers.log(LOG_EVERY + 1, LOSSES, learning_rate=1e-4, grad_norm=1.0)
    trackers.finish()
    (file,) = (tmp_path / "tensorboard").rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    logged = {
        tag: [(event.step, round(event.value, 6)) for event in events.Scalars(tag)]
        for tag in ("loss/total", "loss/instance", "loss/prior")
    }
    step = LOG_EVERY
    assert logged == {
        "loss/total": [(step, 0.5)],
        "loss/instance": [(step, 0.3)],
        "loss/prior": [(step, 0.2)],
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_metrics_show_the_newest_snapshot(writer):
    fp16 = {"loss_scale": 2048.0, "skipped_steps": 1}
    writer.step(3, losses=LOSSES, images=8, learning_rate=1e-4, grad_norm=0.5, **fp16)
    port = free_port()
    with MetricsServer("127.0.0.1", port) as server:
        server.update(writer.latest)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["darkroom_trainer_step",] == 3
    assert samples["darkroom_trainer_loss", "prior"] == 0.2
    assert samples["darkroom_trainer_grad_norm",] == 0.5
    assert samples["darkroom_trainer_loss_scale",] == 2048
    assert samples["darkroom_trainer_skipped_steps",] == 1
    assert samples["darkroom_trainer_phase", "Training"] == 1
    assert samples["darkroom_trainer_phase", "Starting"] == 0


def test_an_occupied_port_is_refused_with_its_number():
    port = free_port()
    with (
        MetricsServer("127.0.0.1", port),
        pytest.raises(TrainerError, match=f"port {port} can't be used"),
    ):
        MetricsServer("127.0.0.1", port)


def test_the_log_has_a_line_a_phase_and_then_one_now_and_then(writer, caplog):
    times = iter((0.0, 1.0, 2.0, 9.0, 11.5))
    log = ProgressLog(clock=lambda: next(times))
    with caplog.at_level("INFO"):
        writer.enter(Phase.CLASS_IMAGES, total=16)
        log.progress(writer.latest)
        writer.enter(Phase.TRAINING, total=10)
        for step in range(1, 5):
            writer.step(step, losses=LOSSES, images=8, learning_rate=1e-4, grad_norm=1.0)
            log.progress(writer.latest)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "ClassImages: 0 of 16"
    assert [line.split(", ")[:2] for line in lines[1:]] == [
        ["Training: step 1 of 10", "loss 0.5"],
        ["Training: step 4 of 10", "loss 0.5"],
    ]
