"""A run that was killed and continued publishes the same bytes as one that was not."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from darkroom_trainer.progress import PROGRESS_FILE, Phase, read_progress
from darkroom_trainer.stopping import request_stop

WORKER = Path(__file__).with_name("resume_worker.py")
STEPS = 5
MATRIX = [
    *itertools.product((0, 1, 2, 3), ("FP32", "BF16"), ("None",)),
    *itertools.product((2, 3), ("FP32",), ("CPU",)),
]
"""ZeRO stage, precision, offload."""

GRID = {"everySteps": 4, "prompts": ["a photo of sks dog"]}
"""The grid of step 4 is part of the published model."""

STAGE_TOLERANCE = {"FP32": 1e-6, "BF16": 3e-4}
"""Mean difference of a weight between two stages: they add up in another order, and round the sums."""


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
        output, errors = ranks[0].communicate(timeout=900)
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

    def build(root, name, workers, stage, precision, offload="None", **more):
        scale = {"workers": workers, "zeroStage": stage, "precision": precision}
        job = make_job(
            root,
            training={"maxSteps": STEPS, "gradientAccumulationSteps": 2, "horizontalFlip": True},
            scale=scale | {"offload": offload},
            validation=GRID,
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


def published_unet(root):
    (folder,) = (root / "models" / "default" / "tiny").glob("[0-9a-f]" * 64)
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def mean_difference(first, second):
    """Mean over all weights of how far two models are apart."""
    parts = [(first[name] - second[name]).abs().flatten() for name in first]
    return float(torch.cat(parts).mean())


@pytest.mark.parametrize("workers", [1, 2])
def test_every_zero_stage_and_precision_resumes_to_the_same_bytes(
    tmp_path, entry_of, tiny_base, workers
):
    wholes = {
        "-".join(map(str, case)): entry_of(
            tmp_path / "-".join(map(str, case)), "-".join(map(str, case)), workers, *case
        )
        for case in MATRIX
    }
    undisturbed, code, errors = run_ranks(tmp_path / "whole.json", list(wholes.values()), workers)
    assert code == 0, errors

    resumed = []
    for name, case in zip(wholes, MATRIX, strict=True):
        root = tmp_path / f"resumed-{name}"
        keep_first_checkpoint(Path(wholes[name]["root"]), root)
        resumed.append(entry_of(root, name, workers, *case))
    continued, code, errors = run_ranks(tmp_path / "resumed.json", resumed, workers)
    assert code == 0, errors

    assert len(undisturbed) == len(MATRIX)
    assert continued == undisturbed
    assert len(set(undisturbed.values())) > 1, "precision must matter, or the digests say nothing"

    # All stages are the same training, and it moves the weights: equal digests alone don't say so.
    base = load_file(tiny_base / "unet" / "diffusion_pytorch_model.safetensors")
    for precision, tolerance in STAGE_TOLERANCE.items():
        unets = [published_unet(Path(wholes[name]["root"])) for name in wholes if precision in name]
        for unet in unets:
            assert mean_difference(base, unet) > 5 * tolerance
            assert mean_difference(unets[0], unet) < tolerance
            rounded = {name: tensor.bfloat16().float() for name, tensor in unet.items()}
            assert mean_difference(rounded, unet) > 0, "these are not the 32-bit masters"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_killed_at_any_moment_resumes_to_the_same_bytes(tmp_path, entry_of, workers):
    deaths = {
        "whole": {},
        **{f"after-{step}": {"die_after": step} for step in range(1, STEPS + 1)},
        **{f"within-{step}": {"die_within_checkpoint": step} for step in (2, 4)},
    }
    entries = []
    for name, death in deaths.items():
        for again in [{}] if not death else [death, {}]:
            entry = entry_of(tmp_path / name, name, workers, 2, "FP32")
            entries.append(entry | again | {"port": free_port()})
    published, code, errors = run_ranks(tmp_path / "tasks.json", entries, workers)
    assert code == 0, errors
    assert set(published) == set(deaths), errors
    assert set(published.values()) == {published["whole"]}


def test_a_stop_that_finds_no_room_says_that_nothing_was_saved(tmp_path, entry_of):
    root = tmp_path / "run"
    (root / "run").mkdir(parents=True)
    entry = entry_of(root, "run", 1, 2, "FP32")
    waiting, code, errors = run_ranks(tmp_path / "images.json", [stopped(root, entry)], 1)
    assert (waiting, code) == ({"run": None}, 0), errors
    assert read_progress(root / "run" / PROGRESS_FILE).phase is Phase.INTERRUPTED

    no_prior = json.loads(entry["job"])
    no_prior["spec"]["priorPreservation"] = {"mode": "Disabled"}
    entry |= {"job": json.dumps(no_prior), "disk_full": [1, 0]}
    published, code, errors = run_ranks(tmp_path / "steps.json", [stopped(root, entry)], 1)
    assert (published, code) == ({}, 1)
    assert "told to stop and step 1 could not be saved: DiskFull" in errors


def stopped(root, entry):
    """The entry, and a request to stop that comes before it starts."""
    request_stop(root / "run")
    return entry


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
