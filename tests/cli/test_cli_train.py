"""`darkroom train`: the plan, and what it says when a job can't work; real runs are in tests/laptop."""

import json
import shlex
import shutil
import signal
import socket

import pytest
from PIL import Image

from darkroom_trainer.driver import run
from darkroom_trainer.status import RunStatus


@pytest.fixture(scope="module")
def base(tmp_path_factory, write_base):
    folder = tmp_path_factory.mktemp("base") / "tiny"
    write_base(folder, seed=0)
    return folder


@pytest.fixture
def job(tmp_path, darkroom, base):
    """A job over four photos and a tiny base model."""
    shutil.copytree(base, tmp_path / "base")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (60 * number, 9, 9)).save(photos / f"{number}.png")
    file = tmp_path / "rex.yaml"
    flags = ("--kind", "Animal", "--class-noun", "dog", "--photos", photos)
    assert darkroom("init", file, *flags, "--output", "file:models").exit_code == 0
    file.write_text(file.read_text().replace("uri: builtin:miniature", "uri: file:base"))
    return file


def test_a_dry_run_shows_the_plan_and_changes_nothing(job, tmp_path, darkroom):
    (tmp_path / "photos" / "notes.doc").write_text("shopping")
    before = sorted(tmp_path.rglob("*"))
    result = darkroom("train", job, "--dry-run", "--work-dir", tmp_path / "work")
    assert result.exit_code == 0, result.output
    for text in ("4 kept, 1 set aside", "300 of 4 photos", "32 to make, 0 to reuse", "notes.doc"):
        assert text in result.stdout
    assert "very roughly" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_the_plan_for_programs(job, tmp_path, darkroom):
    result = darkroom("train", job, "--dry-run", "--json", "--work-dir", tmp_path / "work")
    plan = json.loads(result.stdout)
    assert plan["event"] == "plan"
    assert len(plan["photos"]) == 4
    assert (plan["steps"], plan["world_size"], plan["class_images_to_make"]) == (300, 1, 32)
    assert plan["registry"] == str(tmp_path / "models")
    assert plan["resumed_from"] is None


@pytest.mark.parametrize("given", [True, False])
def test_the_command_that_continues_finds_what_was_saved(
    job, tmp_path, darkroom, monkeypatch, given
):
    stopped = run.TrainResult(
        status=RunStatus.INTERRUPTED,
        steps=3,
        entry=None,
        resumed_from=None,
        stop_signal=signal.SIGINT,
    )
    monkeypatch.setattr(run, "train", lambda *_, **__: stopped)
    work = ("--work-dir", str(tmp_path / "my work")) if given else ()
    result = darkroom("train", job, *work, env={"DARKROOM_WORK_DIR": str(tmp_path / "theirs")})
    assert result.exit_code == 130
    assert result.stderr == (
        "stopped by SIGINT and saved at step 3; to continue:\n"
        f"  {shlex.join(['darkroom', 'train', str(job), *work])}\n"
    )


def test_the_work_folder_comes_from_the_environment(job, tmp_path, darkroom):
    environment = {"DARKROOM_WORK_DIR": str(tmp_path / "elsewhere")}
    result = darkroom("train", job, "--dry-run", "--json", env=environment)
    assert json.loads(result.stdout)["run_folder"] == str(tmp_path / "elsewhere/default/rex")


def test_too_few_good_photos_are_an_error_that_lists_every_reason(job, tmp_path, darkroom):
    photos = tmp_path / "photos"
    (photos / "0.png").write_bytes(b"")
    (photos / "1.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    result = darkroom("train", job, "--work-dir", tmp_path / "work")
    assert result.exit_code == 1
    assert "spec.subject.images: at least 3 photos are needed" in result.stderr
    assert "- 0.png: is empty" in result.stderr
    assert "- 1.png: is an SVG drawing" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "work").exists()


def test_a_job_file_that_is_wrong_is_explained(job, darkroom):
    job.write_text(job.read_text().replace("maxSteps: 300", "maxSteps: many"))
    result = darkroom("train", job)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{job}: spec.training.maxSteps: ")


def test_an_occupied_metrics_port_is_said(job, tmp_path, darkroom):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = darkroom("train", job, "--metrics-port", port, "--work-dir", tmp_path / "work")
    assert result.exit_code == 1
    assert f"--metrics-port: port {port} can't be used" in result.stderr
