"""A run that was killed and continued publishes the same bytes as one that was not."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom_trainer.progress import PROGRESS_FILE, read_progress

WORKER = Path(__file__).with_name("resume_worker.py")
STEPS = 5
KILLED_AFTER = 3
"""The checkpoint is of step 2: one step is done again."""

MATRIX = list(itertools.product((0, 1, 2, 3), ("FP32", "BF16")))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def run_ranks(tasks_file, entries, world_size):
    """Runs tasks on real processes with gloo; the digests that rank 0 printed and the exit codes."""
    tasks_file.write_text(json.dumps(entries))
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(tasks_file)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        output, errors = ranks[0].communicate(timeout=500)
        for rank in ranks[1:]:
            # A rank whose peer was killed waits for it: killed too, as a node's death would.
            rank.wait(timeout=60) if ranks[0].returncode == 0 else rank.kill()
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {line["name"]: line["digest"] for line in lines}, ranks[0].returncode, errors


@pytest.fixture(scope="module")
def entry_of(tmp_path_factory, make_job, tiny_base, tiny_photos):
    """Builds one task of the worker script."""
    class_images = tmp_path_factory.mktemp("class-images")

    def build(root, name, workers, stage, precision, validation=None, **more):
        job = make_job(
            root,
            training={"maxSteps": STEPS, "gradientAccumulationSteps": 2, "horizontalFlip": True},
            scale={"workers": workers, "zeroStage": stage, "precision": precision},
            **({"validation": validation} if validation else {}),
        )
        return {
            "name": name,
            "job": job.model_dump_json(by_alias=True),
            "root": str(root),
            "base": str(tiny_base),
            "photos": str(tiny_photos),
            "class_images": str(class_images),
            **more,
        }

    return build


def keep_first_checkpoint(whole, resumed):
    """What a disk holds when a run died after step 3: the checkpoint of step 2, nothing later."""
    checkpoint = "run/checkpoints/step-00000002"
    shutil.copytree(whole / checkpoint, resumed / checkpoint)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_zero_stage_and_precision_resumes_to_the_same_bytes(tmp_path, entry_of, workers):
    wholes = {
        f"{stage}-{precision}": entry_of(
            tmp_path / f"whole-{stage}-{precision}",
            f"{stage}-{precision}",
            workers,
            stage,
            precision,
        )
        for stage, precision in MATRIX
    }
    undisturbed, code, errors = run_ranks(tmp_path / "whole.json", list(wholes.values()), workers)
    assert code == 0, errors

    resumed = []
    for stage, precision in MATRIX:
        name = f"{stage}-{precision}"
        root = tmp_path / f"resumed-{name}"
        keep_first_checkpoint(Path(wholes[name]["root"]), root)
        resumed.append(entry_of(root, name, workers, stage, precision))
    continued, code, errors = run_ranks(tmp_path / "resumed.json", resumed, workers)
    assert code == 0, errors

    assert len(undisturbed) == len(MATRIX)
    assert continued == undisturbed
    assert len(set(undisturbed.values())) > 1, "precision must matter, or the digests say nothing"


def test_a_run_killed_within_a_step_resumes_to_the_same_bytes(tmp_path, entry_of):
    # The grid of step 2 was drawn before the kill and is part of the published model.
    grid = {"everySteps": 2, "prompts": ["a photo of sks dog"]}
    whole, code, errors = run_ranks(
        tmp_path / "whole.json", [entry_of(tmp_path / "whole", "run", 1, 2, "FP32", grid)], 1
    )
    assert code == 0, errors

    killed = entry_of(tmp_path / "killed", "run", 1, 2, "FP32", grid, die_after=KILLED_AFTER)
    printed, code, _ = run_ranks(tmp_path / "killed.json", [killed], 1)
    assert (printed, code) == ({}, -signal.SIGKILL)
    assert not (tmp_path / "killed" / "models").exists()

    again = entry_of(tmp_path / "killed", "run", 1, 2, "FP32", grid)
    resumed, code, errors = run_ranks(tmp_path / "again.json", [again], 1)
    assert code == 0, errors
    assert resumed == whole


@pytest.mark.parametrize(("workers", "full_rank"), [(1, 0), (2, 1)])
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(tmp_path, entry_of, workers, full_rank):
    root = tmp_path / "run"
    entry = entry_of(root, "run", workers, 2, "FP32", disk_full=[4, full_rank])
    published, code, errors = run_ranks(tmp_path / "tasks.json", [entry], workers)
    assert code == 0, errors
    assert published["run"]
    progress = read_progress(root / "run" / PROGRESS_FILE)
    assert progress.conditions == ("CheckpointFailed/DiskFull: step 4 was not saved",)
    checkpoints = sorted(path.name for path in (root / "run" / "checkpoints").iterdir())
    assert checkpoints == ["step-00000002", "step-00000005"]
