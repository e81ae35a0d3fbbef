"""An attempt on a cluster: its exit status, its last line, what it reports, and one real run on Ray."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from darkroom_api.job import Images
from darkroom_api.names import (
    EXIT_INTERRUPTED,
    JOB_ENV,
    JOB_UID_ENV,
    LOG_COPY_ENV,
    PHOTOS_DIR_ENV,
    VOLUMES_ENV,
    WORK_DIR_ENV,
)
from darkroom_api.registry import RegistryEntry, find, load_verified
from darkroom_api.report import RunPhase
from darkroom_api.run_layout import OWNER_FILE, RUNNING_FILE
from darkroom_api.status import Reason
from darkroom_trainer.__main__ import main
from darkroom_trainer.driver import cluster_attempt
from darkroom_trainer.driver.run import RunOptions, TrainResult, prepare
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.holding import hold_run
from darkroom_trainer.inputs.machine import Machine
from darkroom_trainer.inputs.photos import load_photos
from darkroom_trainer.inputs.sources import find_images
from darkroom_trainer.status import RunStatus
from darkroom_trainer.stopping import request_stop, stop_requested


class Recorder:
    """Stands where the client stands; remembers the reports, and whether the run was still held."""

    def __init__(self, folder):
        self.folder, self.told, self.held, self.unwanted = folder, [], None, False

    def tell(self, report):
        self.told.append(report)

    def close(self, patience_s):
        self.held = (self.folder / RUNNING_FILE).exists()


@pytest.fixture
def cluster(make_job, tmp_path, monkeypatch):
    """Runs an attempt whose training is the given function."""
    folder = tmp_path / "work" / "default" / "tiny"
    recorder = Recorder(folder)
    monkeypatch.setenv(WORK_DIR_ENV, str(tmp_path / "work"))
    monkeypatch.setattr(cluster_attempt.ProgressClient, "from_environment", lambda: recorder)

    def run(train):
        monkeypatch.setattr(cluster_attempt, "run_prepared", train)
        return cluster_attempt.run_attempt(make_job(tmp_path), tmp_path)

    run.folder, run.recorder = folder, recorder
    return run


def ended(status, entry=None, resumed_from=None):
    return TrainResult(status=status, steps=3, entry=entry, resumed_from=resumed_from)


def test_an_interrupted_attempt_saves_says_so_and_exits_with_75(cluster, capsys):
    def train(prepared, ray_run, on_progress, is_unwanted):
        assert (cluster.folder / RUNNING_FILE).exists()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested(cluster.folder)
        return ended(RunStatus.INTERRUPTED)

    assert cluster(train) == 75
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "darkroom: Preempted: it was asked to stop and saved at step 3"
    assert cluster.recorder.told[-1].phase is RunPhase.INTERRUPTED
    assert cluster.recorder.held
    assert not (cluster.folder / RUNNING_FILE).exists()


@pytest.mark.parametrize(
    ("step", "resumed_from", "said"),
    [
        (0, None, "before its first step, with nothing to save"),
        (3, 3, "with nothing new to save; it had saved at step 3"),
        (4, 3, "and saved at step 4"),
        (1, None, "and saved at step 1"),
    ],
)
def test_an_attempt_that_is_stopped_says_what_is_saved(cluster, capsys, step, resumed_from, said):
    result = replace(ended(RunStatus.INTERRUPTED, resumed_from=resumed_from), steps=step)
    assert cluster(lambda *_, **__: result) == EXIT_INTERRUPTED
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"darkroom: Preempted: it was asked to stop {said}"


def test_an_attempt_that_is_stopped_while_it_prepares_ends_at_once(cluster, monkeypatch):
    over = threading.Event()

    def prepare_for_ever(job, options):
        request_stop(cluster.folder)
        over.wait()

    monkeypatch.setattr(cluster_attempt, "prepare", prepare_for_ever)
    assert cluster(None) == EXIT_INTERRUPTED
    over.set()
    last = cluster.recorder.told[-1]
    assert (last.phase, last.failure.reason) == (RunPhase.INTERRUPTED, Reason.PREEMPTED)
    assert not (cluster.folder / RUNNING_FILE).exists()


def test_an_attempt_whose_job_goes_with_its_model_is_asked_to_save_nothing(cluster, capsys):
    def train(prepared, ray_run, on_progress, is_unwanted):
        assert not is_unwanted()
        cluster.recorder.unwanted = True
        assert is_unwanted()
        return ended(RunStatus.INTERRUPTED)

    assert cluster(train) == EXIT_INTERRUPTED
    assert "darkroom: Deleting: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            TrainerError(Reason.LOSS_NOT_FINITE, "the loss\nis nan", "x"),
            "LossNotFinite: the loss is nan",
        ),
        (OSError(28, "No space left"), "DiskFull: the disk is full: [Errno 28] No space left"),
        (KeyError("x"), "WorkerFailed: a training worker failed: 'x'"),
    ],
)
def test_a_failed_attempt_says_why_in_its_last_line_and_report(cluster, capsys, error, line):
    def train(prepared, ray_run, on_progress, is_unwanted):
        raise error

    assert cluster(train) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"darkroom: {line}"
    last = cluster.recorder.told[-1]
    assert last.failure.reason == line.partition(":")[0]
    assert last.plan.world_size == 1
    assert not (cluster.folder / RUNNING_FILE).exists()


def test_an_attempt_beside_another_leaves_its_running_file(cluster, capsys):
    with hold_run(cluster.folder):
        assert cluster(None) == 1
        assert (cluster.folder / RUNNING_FILE).exists()
    assert "darkroom: AlreadyRunning: " in capsys.readouterr().out
    assert cluster.recorder.told[-1].failure.reason is Reason.ALREADY_RUNNING


def test_a_published_attempt_reports_its_model(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(VOLUMES_ENV, str(tmp_path))
    model = tmp_path / "claim" / "models" / "digest"

    def train(prepared, ray_run, on_progress, is_unwanted):
        return ended(RunStatus.FINISHED, RegistryEntry("default", "tiny", "a" * 64, model))

    manifest = SimpleNamespace(files={})
    monkeypatch.setattr(
        "darkroom_trainer.driver.operator_reports.read_manifest", lambda folder: manifest
    )
    assert cluster(train) == 0
    last = cluster.recorder.told[-1]
    assert (last.phase, last.model.uri) == (RunPhase.FINISHED, "pvc://claim/models/digest")
    assert "darkroom: " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("owner", "begins_afresh"), [("another", True), ("me", False), (None, False)]
)
def test_a_later_job_of_the_same_name_may_be_another_training(
    cluster, monkeypatch, owner, begins_afresh
):
    monkeypatch.setenv(JOB_UID_ENV, "me")
    old = cluster.folder / "checkpoints" / "step-00000003"
    old.mkdir(parents=True)
    if owner is not None:
        (cluster.folder / OWNER_FILE).write_text(owner)

    def prepared(job, options):
        if not options.restart:
            raise TrainerError(
                Reason.SPEC_CHANGED, "spec.training.seed: it was 1 and is 2", "set it back"
            )
        return prepare(job, options)

    monkeypatch.setattr(cluster_attempt, "prepare", prepared)
    status = cluster(lambda *_, **__: ended(RunStatus.INTERRUPTED))
    assert (status == EXIT_INTERRUPTED) is begins_afresh
    assert old.exists() is not begins_afresh
    if begins_afresh:
        assert (cluster.folder / OWNER_FILE).read_text() == "me"
    else:
        assert cluster.recorder.told[-1].failure.reason is Reason.SPEC_CHANGED


def test_a_job_that_can_t_be_read_is_an_error_of_the_job(monkeypatch, capsys):
    monkeypatch.setenv(JOB_ENV, "{")
    assert main([]) == 1
    assert capsys.readouterr().out.startswith(f"darkroom: SpecInvalid: {JOB_ENV}")


def test_the_head_needs_no_gpus_of_its_own(make_job, tmp_path):
    job = make_job(tmp_path, scale={"workers": 2, "gpusPerWorker": 1})
    pods = cluster_attempt.pods_of(job.spec.scale)
    assert (pods.cpus, pods.gpus) == (2, 2)
    options = RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work", workers_machine=pods)
    assert prepare(job, options).task.threads is None
    lacking = Machine(cpus=2, memory_bytes=1 << 30, gpus=1)
    options = RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work", workers_machine=lacking)
    with pytest.raises(TrainerError, match="the job needs 2 GPUs"):
        prepare(job, options)


def test_pictures_of_a_config_map_are_read_once(tiny_photos, tmp_path, monkeypatch):
    data = tmp_path / "..2026_01_01"
    data.mkdir()
    for photo in tiny_photos.iterdir():
        (data / photo.name).write_bytes(photo.read_bytes())
        (tmp_path / photo.name).symlink_to(Path("..data") / photo.name)
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / ".hidden.png").write_bytes(b"")
    monkeypatch.setenv(PHOTOS_DIR_ENV, str(tmp_path))
    folder = find_images(Images.of(config_map="rex"), tmp_path / "elsewhere")
    found = load_photos(folder, 32)
    assert [photo.name for photo in found.photos] == sorted(p.name for p in tiny_photos.iterdir())
    assert not found.quarantined


@pytest.mark.parametrize("readable", [True, False])
def test_what_the_driver_prints_is_copied_where_it_is_told_to(tmp_path, readable):
    copy = tmp_path / "pod.log" if readable else tmp_path / "absent" / "pod.log"
    done = subprocess.run(
        [sys.executable, "-m", "darkroom_trainer", "--job", str(tmp_path / "no.yaml")],
        env=os.environ | {LOG_COPY_ENV: str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == cluster_attempt.EXIT_FAILED
    assert done.stdout.startswith("darkroom: SpecInvalid: ")
    if readable:
        assert copy.read_text() == done.stdout
    else:
        assert "the pod's log lacks the driver's output" in done.stderr


DRIVER = """
import os, subprocess, sys, ray
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=128 << 20)
os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
sys.exit(subprocess.run([sys.executable, "-m", "darkroom_trainer", "--job", sys.argv[1]]).returncode)
"""


@pytest.mark.slow
@pytest.mark.exhaustive  # the node tier's example does so in every run
def test_a_run_on_a_cluster_that_is_there_publishes(make_job, tmp_path):
    job = make_job(tmp_path, scale={"workers": 2})
    (tmp_path / "job.json").write_text(job.model_dump_json(by_alias=True))
    work = {WORK_DIR_ENV: str(tmp_path / "work"), "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "job.json")],
        env=os.environ | work,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as cluster:
        watchdog = threading.Timer(300, cluster.kill)
        watchdog.start()
        log = cluster.stdout.read()
        watchdog.cancel()
    assert cluster.returncode == 0, log
    assert load_verified(find(tmp_path / "models", "tiny"))
    assert not (tmp_path / "work" / "default" / "tiny" / RUNNING_FILE).exists()
