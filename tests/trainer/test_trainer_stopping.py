"""A run that is asked to stop leaves at once where there is nothing to save, and so do its pods."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from darkroom_api.names import WORK_DIR_ENV
from darkroom_api.report import RunPhase
from darkroom_api.run_layout import PROGRESS_FILE, RUNNING_FILE, STOP_FILE
from darkroom_api.status import Reason
from darkroom_operator.launch.manifests.pods import LOOKS, SAVE_AND_GO
from darkroom_trainer import holding
from darkroom_trainer.driver.local_ray import LocalRay
from darkroom_trainer.driver.ray_run import RayRun
from darkroom_trainer.driver.run import RunOptions, prepare, run_prepared
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.holding import hold_run
from darkroom_trainer.output.checkpoint import newest_checkpoint
from darkroom_trainer.progress.snapshot import Losses, ProgressWriter
from darkroom_trainer.status import RunStatus
from darkroom_trainer.stopping import stop_requested

LOOK_S, BEAT_S = 0.1, holding.BEAT_S / 5
"""A hook and the driver that it looks for are both five times as fast as in a pod."""
PATIENCE_S = LOOKS * LOOK_S + 1
"""Longer than a hook waits for a driver that is dead."""

HOLDER = """
import sys, time
from pathlib import Path
from darkroom_trainer.holding import hold_run

with hold_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


FIRST_PROCESS = """
import signal, sys

print("started", flush=True)
sys.stdin.readline()
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
sys.stdin.readline()
"""


@pytest.fixture
def first_process():
    """Stands for the first process of a container; catches SIGTERM after a line on its input."""
    with subprocess.Popen(
        [sys.executable, "-c", FIRST_PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        process.stdout.readline()
        yield process


@pytest.fixture
def start_hook(first_process, tmp_path_factory, monkeypatch):
    """Starts the preStop hook of a container that catches SIGTERM already."""
    monkeypatch.setattr(holding, "BEAT_S", BEAT_S)
    commands = tmp_path_factory.mktemp("commands")
    (commands / "sleep").write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} {LOOK_S}\n")
    (commands / "sleep").chmod(0o755)
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"}

    def start(folder):
        first_process.stdin.write("\n")
        return subprocess.Popen(hook_of(folder, first_process), env=environment)

    return start


def hook_of(folder, first_process):
    return ["/bin/sh", "-c", SAVE_AND_GO, str(folder), str(first_process.pid)]


@pytest.mark.parametrize("folder", ["absent", "."])
def test_a_pod_without_a_run_goes_at_once(tmp_path, start_hook, folder):
    with start_hook(tmp_path / folder) as hook:
        assert hook.wait() == 0
    assert (tmp_path / STOP_FILE).exists() is (folder == ".")


def test_a_pod_that_has_just_started_goes_when_sigterm_is_heard(tmp_path, first_process):
    with subprocess.Popen(hook_of(tmp_path, first_process)) as hook:
        with pytest.raises(subprocess.TimeoutExpired):
            hook.wait(timeout=1)
        first_process.stdin.write("\n")
        assert hook.wait() == 0


def test_a_pod_waits_as_long_as_the_driver_lives(tmp_path, start_hook):
    with hold_run(tmp_path):
        hook = start_hook(tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            hook.wait(timeout=PATIENCE_S)
        assert (tmp_path / STOP_FILE).exists()
    assert hook.wait() == 0


def test_a_pod_does_not_wait_for_a_driver_that_was_killed(tmp_path, start_hook):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE
    ) as driver:
        driver.stdout.readline()
        driver.kill()
    assert (tmp_path / RUNNING_FILE).exists()
    with start_hook(tmp_path) as hook:
        assert hook.wait(timeout=60) == 0
    assert (tmp_path / RUNNING_FILE).exists(), "only a driver removes it"


def test_a_driver_that_is_stopped_in_a_download_ends_at_once(make_job, tmp_path):
    """The Hub takes the connection and says nothing."""
    hub = socket.create_server(("127.0.0.1", 0))
    job = make_job(tmp_path, baseModel={"uri": f"hf://a/b@{'0' * 40}"})
    (tmp_path / "job.json").write_text(job.model_dump_json(by_alias=True))
    environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}",
        "HF_HUB_ETAG_TIMEOUT": "600",
        WORK_DIR_ENV: str(tmp_path / "work"),
    }
    with (
        hub,
        subprocess.Popen(
            [sys.executable, "-m", "darkroom_trainer", "--job", str(tmp_path / "job.json")],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as driver,
    ):
        watchdog = threading.Timer(120, driver.kill)
        watchdog.start()
        connection, _ = hub.accept()
        with connection:
            driver.send_signal(signal.SIGTERM)
            lines = driver.stdout.read().splitlines()
        watchdog.cancel()
    assert driver.returncode == 75
    assert lines[-1].startswith("darkroom: Preempted: it was asked to stop before its first step")
    assert not (tmp_path / "work" / "default" / "tiny" / RUNNING_FILE).exists()


WAITING_DRIVER = """
import sys, threading
from pathlib import Path
import psutil
from darkroom_api.job import PersonalizationJob
from darkroom_trainer.holding import hold_run
from darkroom_trainer.driver.local_ray import LocalRay
from darkroom_trainer.driver.ray_run import RayRun
from darkroom_trainer.driver.run import RunOptions, prepare, run_prepared
from darkroom_trainer.stopping import request_stop

root = Path(sys.argv[1])
job = PersonalizationJob.model_validate_json((root / "job.json").read_text())
prepared = prepare(job, RunOptions(job_folder=root, work_dir=root / "work"))
too_small = LocalRay(job.spec.scale.model_copy(update={"workers": 1}))
with hold_run(prepared.task.run_folder):
    request_stop(prepared.task.run_folder)
    result = run_prepared(prepared, too_small, lambda progress: None)
for thread in threading.enumerate():
    if thread.name == "ray-train":
        thread.join()
print(result.status, result.steps, psutil.Process().children(recursive=True))
"""


@pytest.mark.slow
def test_a_driver_that_is_stopped_while_ray_starts_the_workers_ends_with_its_ray(
    make_job, tmp_path
):
    """There is no room for the second worker: Ray would wait for ever."""
    job = make_job(tmp_path, scale={"workers": 2})
    (tmp_path / "job.json").write_text(job.model_dump_json(by_alias=True))
    done = subprocess.run(
        [sys.executable, "-c", WAITING_DRIVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1] == "Interrupted 0 []"


@pytest.fixture
def endless(make_job, tmp_path):
    """A prepared job that would never end, nor save."""
    job = make_job(
        tmp_path,
        priorPreservation={"mode": "Disabled"},
        training={"maxSteps": 100_000},
        checkpoint={"everySteps": 100_000},
    )
    return prepare(job, RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work"))


def left_at_three_steps(prepared, ray_run):
    """Runs a job that nobody wants from step 3 on; asserts that it is left there."""
    steps = [0]
    with hold_run(prepared.task.run_folder):
        result = run_prepared(
            prepared,
            ray_run,
            lambda progress: steps.append(progress.step),
            is_unwanted=lambda: steps[-1] >= 3,
        )
    assert (result.status, result.steps) == (RunStatus.INTERRUPTED, steps[-1])
    assert newest_checkpoint(prepared.task.run_folder, prepared.task.job.metadata) == (None, [])


class StepALook(RayRun):
    """Stands for a Ray whose workers do a step between two looks, and save when they are asked to stop."""

    def __enter__(self):
        self.left = False
        return self

    def start(self, task):
        self.task, self.step = task, 0
        self.writer = ProgressWriter(task.run_folder / PROGRESS_FILE, max_steps=100_000)
        self.writer.enter(RunPhase.TRAINING)

    def ended(self, wait_seconds):
        assert not stop_requested(self.task.run_folder), "its workers would save"
        self.step += 1
        losses = Losses(total=1.0, instance=1.0)
        self.writer.step(self.step, losses=losses, images=2, learning_rate=1e-3, grad_norm=1.0)
        self.writer.flush()
        return False

    def __exit__(self, *error):
        self.left = True


def test_a_run_that_nobody_wants_is_left_and_not_asked_to_save(endless):
    ray_run = StepALook()
    left_at_three_steps(endless, ray_run)
    assert ray_run.left
    assert ray_run.step == 3


@pytest.mark.slow
@pytest.mark.exhaustive  # in every run a Ray that is not there is left in the same way
def test_workers_that_nobody_wants_end_without_a_checkpoint(endless):
    left_at_three_steps(endless, LocalRay(endless.task.job.spec.scale))


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(TrainerError, match="can't be written: Not a directory") as caught,
        hold_run(tmp_path / "file" / "rex"),
    ):
        pass
    assert caught.value.reason is Reason.FOLDER_UNUSABLE
