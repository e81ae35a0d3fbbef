"""Same seed, same losses: what is drawn, fed and updated is pinned by a literal list of losses."""

import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from darkroom_api.job import PersonalizationJob
from darkroom_trainer.driver.disk import bytes_below
from darkroom_trainer.driver.sizes import (
    FILE_BYTES,
    checkpoint_bytes,
    class_image_bytes,
    model_bytes,
)
from darkroom_trainer.inputs.base_model import inspect_base

WORKER = Path(__file__).with_name("loss_worker.py")

LOSSES = [
    (1.6839116, 1.1413157, 1.0851918),
    (1.6282703, 1.0684618, 1.1196171),
    (1.6248176, 1.1212329, 1.0071695),
    (1.6023433, 1.0760982, 1.0524900),
    (1.5393434, 1.0134121, 1.0518625),
    (1.5160003, 1.0187030, 0.9945948),
]
"""Total, instance and prior loss of each step. A change that alters them alters every model that is
trained: when it is meant, say so in CHANGELOG.md and write the new ones here."""

TOLERANCE = 1e-5
"""Relative. Processors differ by 1e-6 (from SSE to AVX2) and ZeRO stages by 1e-7; without weight decay
the last step differs by 2e-5, with another second beta by 4e-5, with another identifier by 1e-3."""

SCALES = {
    "zero-0": {"workers": 1, "zeroStage": 0},
    "zero-2": {"workers": 2, "zeroStage": 2},
}
"""Each with a micro batch of 2: four of them make a step of one worker, two of each of two."""

PRODIGY = {"optimizer": "Prodigy", "learningRate": "1.0", "ema": {}}

RECIPE = {
    "learningRateSchedule": "Cosine",
    "warmupSteps": 2,
    "textEncoderLearningRate": "5e-4",
    "textEncoderStopStep": 4,
    "maxGradNorm": "0.5",
    "snrGamma": "5.0",
    "noiseOffset": "0.1",
    "ema": {"decay": "0.2"},
}
"""Everything that changes how a step is taken, and what is published of the steps."""

BUCKETS = RECIPE | {"aspectRatioBuckets": True}

TRAININGS = {
    **{name: ({}, scale) for name, scale in SCALES.items()},
    "own-group": ({"textEncoderLearningRate": "1e-3"}, SCALES["zero-0"]),
    **{f"prodigy-{workers}": (PRODIGY, {"workers": workers, "zeroStage": 0}) for workers in (1, 2)},
    "recomputed": ({"gradientCheckpointing": True}, SCALES["zero-0"]),
    **{f"recipe-{name}": (RECIPE, scale) for name, scale in SCALES.items()},
    "recipe-whole": (RECIPE | {"batchSizePerWorker": 8}, SCALES["zero-0"]),
    "recipe-zero-3": (RECIPE, {"workers": 2, "zeroStage": 3}),
    "recipe-recomputed": (RECIPE | {"gradientCheckpointing": True}, SCALES["zero-2"]),
    **{f"teacher-{name}": ({}, scale) for name, scale in SCALES.items()},
    "buckets-zero-0": (BUCKETS, SCALES["zero-0"]),
    "buckets-zero-3": (BUCKETS, {"workers": 2, "zeroStage": 3}),
}
GLOBAL_BATCH = 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_job, tiny_base, tiny_photos, two_shapes):
    """A run of each training: its entry, and the losses of its steps."""
    folder = tmp_path_factory.mktemp("losses")
    entries = []
    for name, (changed, scale) in TRAININGS.items():
        micro_batch = changed.get("batchSizePerWorker", 2)
        training = {
            "maxSteps": len(LOSSES),
            "batchSizePerWorker": micro_batch,
            "gradientAccumulationSteps": GLOBAL_BATCH // micro_batch // scale["workers"],
            "horizontalFlip": True,
        }
        job = make_job(
            folder / name,
            priorPreservation={
                "mode": "FrozenTeacher" if name.startswith("teacher") else "GeneratedImages",
                "numImages": 6,
                "weight": "0.5",
            },
            training=training | changed,
            scale=scale,
        )
        entries.append(
            {
                "name": name,
                "job": job.model_dump_json(by_alias=True),
                "root": str(folder / name),
                "base": str(tiny_base),
                "photos": str(two_shapes if changed is BUCKETS else tiny_photos),
            }
        )
    tasks = folder / "tasks.json"
    tasks.write_text(json.dumps(entries))
    done = subprocess.run(
        [sys.executable, str(WORKER), str(tasks)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {
        entry["name"]: (
            entry,
            [line["losses"] for line in lines if line["name"] == entry["name"]],
        )
        for entry in entries
    }


@pytest.mark.parametrize("case", ["zero-0", "zero-2", "own-group", "recomputed"])
def test_a_tiny_job_has_the_losses_it_always_had_whatever_shares_it_out(runs, case):
    _, losses = runs[case]
    assert losses == [pytest.approx(step, rel=TOLERANCE) for step in LOSSES]


def test_prodigy_finds_the_same_rate_whatever_shares_its_steps_out(runs):
    (_, alone), (_, shared) = runs["prodigy-1"], runs["prodigy-2"]
    assert shared == [pytest.approx(step, rel=TOLERANCE) for step in alone]
    assert alone[0] == pytest.approx(LOSSES[0], rel=TOLERANCE)
    assert alone[-1] != pytest.approx(LOSSES[-1], rel=TOLERANCE)


def published_unet(entry):
    (model,) = Path(entry["root"]).glob("models/default/tiny/" + "?" * 64)
    return load_file(model / "unet" / "diffusion_pytorch_model.safetensors")


def mean_difference(first, second):
    """Mean over all weights of how far two models are apart."""
    return float(torch.cat([(first[name] - second[name]).abs().flatten() for name in first]).mean())


@pytest.mark.parametrize(
    "case", ["recipe-zero-0", "recipe-zero-2", "recipe-zero-3", "recipe-recomputed"]
)
def test_a_recipe_is_the_same_whatever_shares_its_steps_out(runs, case):
    entry_of_whole, whole = runs["recipe-whole"]
    assert whole[0] != pytest.approx(LOSSES[0], rel=0.01)
    entry, losses = runs[case]
    assert losses == [pytest.approx(step, rel=TOLERANCE) for step in whole]
    # The moving average of the steps, too.
    ours, theirs = published_unet(entry), published_unet(entry_of_whole)
    assert mean_difference(ours, theirs) < 1e-6


def test_micro_batches_of_different_sizes_train_the_same_on_one_worker_and_sharded_over_two(runs):
    _, whole = runs["recipe-whole"]
    _, (first, *later) = runs["buckets-zero-0"]
    # Of other photos, and of the same class images, which stay squares.
    assert first[1] != pytest.approx(whole[0][1], rel=0.001)
    assert first[2] == pytest.approx(whole[0][2], rel=TOLERANCE)
    _, sharded = runs["buckets-zero-3"]
    assert sharded == [pytest.approx(step, rel=TOLERANCE) for step in (first, *later)]


@pytest.mark.parametrize("scale", SCALES)
def test_a_teacher_and_its_pupil_agree_until_the_pupil_has_learnt(runs, scale):
    _, losses = runs[f"teacher-{scale}"]
    (_, instance, prior), *later = losses
    assert instance == pytest.approx(LOSSES[0][1], rel=TOLERANCE)
    assert prior == pytest.approx(0, abs=1e-10)
    assert all(prior > 1e-6 for _, _, prior in later)
    _, others = runs["teacher-zero-0"]
    assert losses == [pytest.approx(step, rel=TOLERANCE, abs=1e-10) for step in others]


@pytest.mark.parametrize("case", [*SCALES, "prodigy-2"])
def test_a_plan_knows_the_sizes_of_what_a_run_leaves_on_disk(runs, case):
    entry, _ = runs[case]
    root, job = Path(entry["root"]), PersonalizationJob.model_validate_json(entry["job"])
    base = inspect_base(job.spec.base_model.uri, Path(entry["base"]))

    folder = root / "run" / "checkpoints" / "step-00000006"
    predicted, found = checkpoint_bytes(job, base), bytes_below(folder)
    assert 0 < found <= predicted <= found + FILE_BYTES
    assert predicted - FILE_BYTES == pytest.approx(numbers_below(folder), rel=0.01)

    (model,) = root.glob("models/default/tiny/" + "?" * 64)
    predicted, found = model_bytes(job, base), bytes_below(model)
    assert 0 < found <= predicted <= found + FILE_BYTES
    weights = map(numbers_in, model.rglob("*.safetensors"))
    assert predicted - FILE_BYTES - base.copied_bytes == sum(weights)

    (images,) = (root / "class-images").rglob("*.safetensors")
    assert class_image_bytes(job, base, 8) == numbers_in(images)


def numbers_in(safetensors):
    """Size of the tensors in a file, which begins with the length of its header."""
    (header,) = struct.unpack("<Q", safetensors.read_bytes()[:8])
    return safetensors.stat().st_size - 8 - header


def numbers_below(folder):
    """Size of the tensors in torch's files, which are archives with a member a tensor."""
    return sum(
        member.file_size
        for file in folder.rglob("*.pt")
        for member in zipfile.ZipFile(file).infolist()
        if "/data/" in member.filename
    )
