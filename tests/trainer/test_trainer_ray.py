"""The driver on real local Ray: two workers, an early stop, a killed head, a worker's own error."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from diffusers import StableDiffusionPipeline

from darkroom_api.registry import load_verified
from darkroom_api.run_layout import LOCK_FILE
from darkroom_api.status import Reason
from darkroom_local.ray_session import HEAD_PROCESSES
from darkroom_trainer.driver.ray_run import cause_of
from darkroom_trainer.driver.run import RunOptions, prepare, train
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.progress.snapshot import Phase
from darkroom_trainer.status import RunStatus

pytestmark = pytest.mark.slow


def options(root):
    return RunOptions(job_folder=root, work_dir=root / "work")


def test_two_workers_train_one_model_and_a_second_job_makes_no_class_images(make_job, tmp_path):
    seen = []
    job = make_job(
        tmp_path,
        scale={"workers": 2},
        validation={"everySteps": 4, "prompts": ["a photo of sks dog", "a photo of a dog"]},
    )
    result = train(job, options(tmp_path), seen.append)
    assert (result.status, result.steps) == (RunStatus.FINISHED, 4)
    assert load_verified(result.entry)
    pipeline = StableDiffusionPipeline.from_pretrained(result.entry.folder, use_safetensors=True)
    assert pipeline.unet.config.sample_size == 8
    assert (result.entry.folder / "contact-sheet.png").exists()
    run = tmp_path / "work" / "default" / "tiny"
    assert list((run / "tensorboard").rglob("events.out.tfevents.*"))
    assert seen[-1].phase is Phase.FINISHED
    assert (seen[-1].class_images_reused, seen[-1].class_images_made) == (0, 8)

    second = make_job(tmp_path, name="second", training={"seed": 7}, scale={"workers": 2})
    assert prepare(second, options(tmp_path)).plan.class_images_to_make == 0


@pytest.mark.exhaustive
def test_a_killed_head_ends_the_run_with_what_to_do(make_job, tmp_path):
    job = make_job(tmp_path, training={"maxSteps": 100_000}, checkpoint={"everySteps": 5})

    def kill_head(progress):
        if progress.last_checkpoint_step is None:
            return
        for child in psutil.Process().children():
            if child.name() in HEAD_PROCESSES:
                child.kill()

    with pytest.raises(TrainerError, match="Ray's head process was killed") as caught:
        train(job, options(tmp_path), kill_head)
    saved = prepare(job, options(tmp_path)).resumed_from
    assert saved >= 5
    assert caught.value.fix == f"run the same command again: it continues from step {saved}"
    assert_the_log_is_there(caught.value)


def assert_the_log_is_there(error):
    (logs,) = re.findall(r"\(Ray's logs: (.*)\)", error.message)
    assert (Path(logs) / "raylet.out").exists()
    shutil.rmtree(Path(logs).parent)


def test_a_killed_worker_is_said_in_our_words_and_nothing_is_promised(make_job, tmp_path, capfd):
    job = make_job(tmp_path, training={"maxSteps": 100_000}, checkpoint={"everySteps": 100_000})

    def kill_worker(progress):
        if progress.step > 0:
            for child in psutil.Process().children(recursive=True):
                if child.name().startswith("ray::RayTrainWorke"):
                    child.kill()

    with pytest.raises(TrainerError, match=r"^a training worker was killed") as caught:
        train(job, options(tmp_path), kill_worker)
    assert caught.value.reason == "WorkerDied"
    assert caught.value.fix == "run the same command again: nothing was saved yet"
    assert_the_log_is_there(caught.value)
    shown = "".join(capfd.readouterr())
    assert "\x1b" not in shown
    assert "ray" not in shown.lower()


def test_a_driver_imports_no_torch():
    """It costs seconds: the workers alone need it, and import it while the driver waits."""
    code = "import sys, darkroom_trainer.driver.ray_trainer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DRIVER = """
import sys
from pathlib import Path
from darkroom_api.job import PersonalizationJob
from darkroom_trainer.driver.run import RunOptions, train

root = Path(sys.argv[1])
job = PersonalizationJob.model_validate_json((root / "job.json").read_text())
result = train(
    job,
    RunOptions(job_folder=root, work_dir=root / "work"),
    lambda progress: print(progress.step, flush=True),
)
print(result.status, result.stop_signal.name, result.steps)
"""


@pytest.mark.exhaustive
def test_a_signal_saves_and_the_next_run_goes_on(make_job, tmp_path):
    job = make_job(tmp_path, training={"maxSteps": 100_000}, checkpoint={"everySteps": 100_000})
    (tmp_path / "job.json").write_text(job.model_dump_json(by_alias=True))
    (tmp_path / "driver.py").write_text(DRIVER)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        watchdog = threading.Timer(600, driver.kill)
        watchdog.start()
        lines = []
        for line in driver.stdout:
            lines.append(line.strip())
            if line.strip().isdigit() and int(line) >= 3:
                os.kill(driver.pid, signal.SIGTERM)
                break
        lines += driver.stdout.read().splitlines()
        watchdog.cancel()
    status, name, steps = lines[-1].split()
    assert (status, name) == ("Interrupted", "SIGTERM")
    assert prepare(job, options(tmp_path)).resumed_from == int(steps)


def test_a_worker_s_error_is_found_inside_ray_s(tmp_path):
    inner = TrainerError(
        Reason.LOSS_NOT_FINITE, "spec.training.learningRate: it is nan", "lower it"
    )

    class Wrapped(Exception):  # noqa: N818 - shaped as ray.train.WorkerGroupError
        def __init__(self):
            super().__init__("Training failed due to worker errors")
            self.worker_failures = {0: RuntimeError("x")}

    outer = Wrapped()
    outer.worker_failures[0].__cause__ = inner
    assert cause_of(outer) is inner
    died = cause_of(RuntimeError("The actor died unexpectedly before finishing this task."))
    assert died.reason == "WorkerDied"
    outer.worker_failures[0].__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert cause_of(outer).reason == "DiskFull"


def test_a_worker_that_ray_killed_for_its_memory_is_told_as_that():
    words = (
        "2 worker(s) were killed due to the node running low on memory. Memory on the node was"
        " 3.81GB / 4.00GB (0.95), which exceeds the memory usage threshold of 0.95.\n"
        "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io"
    )
    found = cause_of(RuntimeError(f"training failed:\n{words}"))
    assert found.reason == "HostOutOfMemory"
    assert "3.81GB / 4.00GB" in found.message
    assert "Refer to" not in found.message


@pytest.fixture
def overflowing_base(tiny_base, tmp_path):
    """A base model whose latents are too large to be squared in 32 bits; its weights are in order."""
    folder = shutil.copytree(tiny_base, tmp_path / "overflowing")
    (folder / "manifest.json").unlink()
    file = folder / "vae" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "scaling_factor": 1e30}))
    return folder


@pytest.mark.exhaustive
def test_a_loss_that_is_not_finite_ends_the_job_and_is_never_saved(
    make_job, overflowing_base, tmp_path
):
    job = make_job(
        tmp_path,
        baseModel={"uri": f"file:{overflowing_base}"},
        priorPreservation={"mode": "Disabled"},
        checkpoint={"everySteps": 1},
    )
    with pytest.raises(TrainerError) as caught:
        train(job, options(tmp_path), lambda progress: None)
    assert caught.value.reason == "LossNotFinite"
    assert prepare(job, options(tmp_path)).task.resume_from is None


def test_a_job_that_is_being_trained_is_refused(make_job, tmp_path):
    folder = tmp_path / "work" / "default" / "tiny"
    folder.mkdir(parents=True)
    with (folder / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainerError, match="another process trains this job"):
            train(make_job(tmp_path), options(tmp_path), lambda progress: None)


def test_bad_photos_are_refused_before_ray_starts(make_job, tmp_path):
    (tmp_path / "empty").mkdir()
    images = {"uri": f"file:{tmp_path / 'empty'}"}
    job = make_job(tmp_path, subject={"images": images})
    with pytest.raises(TrainerError, match="at least 3 photos are needed"):
        train(job, options(tmp_path), lambda progress: None)
    assert not Path(tmp_path / "work").exists()
