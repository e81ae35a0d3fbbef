"""Progress is readable by programs at any moment: as a file, and as Prometheus metrics."""

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from darkroom_trainer.errors import TrainerError
from darkroom_trainer.metrics import MetricsServer
from darkroom_trainer.progress import Losses, Phase, ProgressWriter, read_progress

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


def test_class_images_are_counted_and_a_condition_stands_once(writer):
    writer.enter(Phase.CLASS_IMAGES, total=16)
    writer.advance(8)
    writer.advance(16)
    writer.warn("CheckpointFailed/DiskFull: step 2 was not saved")
    writer.warn("CheckpointFailed/DiskFull: step 2 was not saved")
    assert writer.latest.class_images_made == 16
    assert len(writer.latest.conditions) == 1


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_metrics_show_the_newest_snapshot(writer):
    writer.step(3, losses=LOSSES, images=8, learning_rate=1e-4, grad_norm=1.0)
    port = free_port()
    with MetricsServer(port) as server:
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
    assert samples["darkroom_trainer_phase", "Training"] == 1
    assert samples["darkroom_trainer_phase", "Starting"] == 0


def test_an_occupied_port_is_refused_with_its_number():
    port = free_port()
    with MetricsServer(port), pytest.raises(TrainerError, match=f"port {port} can't be used"):
        MetricsServer(port)
