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
import torch
from safetensors.torch import load_file

from darkroom_api.run_layout import PROGRESS_FILE
from darkroom_trainer.progress.snapshot import Phase, read_progress

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("resume_worker.py")
STEPS = 5
MATRIX = [
    *itertools.product((0, 1, 2, 3), ("FP32", "BF16"), ("None",)),
    *itertools.product((2, 3), ("FP32",), ("CPU",)),
    *itertools.product((1, 2, 3), ("FP16",), ("None",)),
]
"""ZeRO stage, precision, offload."""
SHORT = [(2, "FP32", "None"), (3, "BF16", "None"), (2, "FP16", "None")]
"""A stage of each precision: the losses of a recipe are compared between stages in every run."""

GRID = {"everySteps": 4, "prompts": ["a photo of sks dog"]}
"""The grid of step 4 is part of the published model."""

STAGE_TOLERANCE = {"FP32": 1e-6, "BF16": 3e-4, "FP16": 3e-4}
"""Mean difference of a weight between two stages: they add up in another order, and round the sums."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.fixture(scope="module")
def run_ranks(tiny_base):
    """Runs tasks on real processes with gloo; the digests that rank 0 printed, its exit code and errors."""
    with subprocess.Popen(
        [sys.executable, str(WORKER), str(tiny_base)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as worker:

        def run(tasks_file, entries, world_size):
            tasks_file.write_text(json.dumps(entries))
            request = {"tasks": str(tasks_file), "world_size": world_size, "port": free_port()}
            worker.stdin.write(json.dumps(request) + "\n")
            worker.stdin.flush()
            code = int(worker.stdout.readline())
            output = tasks_file.with_suffix(".out").read_text().splitlines()
            lines = [json.loads(line) for line in output if line.startswith("{")]
            digests = {line["name"]: line["digest"] for line in lines}
            return digests, code, tasks_file.with_suffix(".err").read_text()

        yield run
        os.killpg(worker.pid, signal.SIGKILL)  # with ranks of a test that ran out of time


@pytest.fixture(scope="module")
def entry_of(tmp_path_factory, make_job, tiny_base, tiny_photos, two_shapes):
    """Builds one task of the worker script."""
    class_images = tmp_path_factory.mktemp("class-images")

    def build(root, name, workers, stage, precision, offload="None", method=None, **more):
        fp16 = precision == "FP16"  # allowed on GPUs only: the worker sets it
        precision = "FP32" if fp16 else precision
        scale = {"workers": workers, "zeroStage": stage, "precision": precision}
        training = {"maxSteps": STEPS, "gradientAccumulationSteps": 2, "horizontalFlip": True}
        changed = dict(method or {})
        job = make_job(
            root,
            training=training | changed.pop("training", {}),
            scale=scale | {"offload": offload},
            **{"validation": GRID} | changed,
        )
        return {
            "name": name,
            "job": job.model_dump_json(by_alias=True),
            "root": str(root),
            "base": str(tiny_base),
            "photos": str(two_shapes if job.spec.training.aspect_ratio_buckets else tiny_photos),
            "class_images": str(class_images),
            "fp16": fp16,
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


@pytest.mark.parametrize(
    ("workers", "cases"),
    [
        pytest.param(2, SHORT, id="2-short"),
        pytest.param(1, MATRIX, id="1-whole", marks=pytest.mark.exhaustive),
        pytest.param(2, MATRIX, id="2-whole", marks=pytest.mark.exhaustive),
    ],
)
def test_every_zero_stage_and_precision_resumes_to_the_same_bytes(
    tmp_path, run_ranks, entry_of, tiny_base, workers, cases
):
    wholes = {
        "-".join(map(str, case)): entry_of(
            tmp_path / "-".join(map(str, case)), "-".join(map(str, case)), workers, *case
        )
        for case in cases
    }
    undisturbed, code, errors = run_ranks(tmp_path / "whole.json", list(wholes.values()), workers)
    assert code == 0, errors

    resumed = []
    for name, case in zip(wholes, cases, strict=True):
        root = tmp_path / f"resumed-{name}"
        keep_first_checkpoint(Path(wholes[name]["root"]), root)
        resumed.append(entry_of(root, name, workers, *case))
    continued, code, errors = run_ranks(tmp_path / "resumed.json", resumed, workers)
    assert code == 0, errors

    assert len(undisturbed) == len(cases)
    assert continued == undisturbed
    for name in wholes:
        last = read_progress(Path(wholes[name]["root"]) / "run" / PROGRESS_FILE)
        assert (last.skipped_steps is not None) == ("FP16" in name)
        assert (last.skipped_steps or 0) <= 2, "the third step is good at the latest"
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


TEACHER = {"priorPreservation": {"mode": "FrozenTeacher"}}
LORA = {"training": {"method": "LoRA", "learningRate": "1e-2", "lora": {"rank": 4}}}
EIGHT_BIT = {"optimizer": "AdamW8bit"}
PRODIGY = {"optimizer": "Prodigy", "learningRate": "1.0", "warmupSteps": 2}
INVERSION = {
    "subject": {"identifier": "<sks>"},
    "training": {
        "method": "TextualInversion",
        "learningRate": "1e-2",
        "trainTextEncoder": False,
        "newTokens": {"vectors": 2},
    },
}
PIVOTAL = LORA | {
    "subject": {"identifier": "<sks>"},
    "training": LORA["training"]
    | {"newTokens": {"learningRate": "5e-2"}, "gradientCheckpointing": True},
}
EMA = {"ema": {"decay": "0.5"}}
BUCKETS = {"training": LORA["training"] | {"aspectRatioBuckets": True}}
METHODS = {
    "lora-0": (LORA, 0, "FP32"),
    "lora-ema-2": ({"training": LORA["training"] | EMA}, 2, "FP32"),
    "inversion-ema-0": (INVERSION | {"training": INVERSION["training"] | EMA}, 0, "FP32"),
    "lora-2": (LORA, 2, "FP32"),
    "lora-teacher-2": (LORA | TEACHER, 2, "BF16"),
    "lora-8bit-2": ({"training": LORA["training"] | EIGHT_BIT} | TEACHER, 2, "BF16"),
    "lora-prodigy-0": ({"training": LORA["training"] | PRODIGY}, 0, "FP32"),
    "lora-teacher-1": (LORA | TEACHER, 1, "FP32"),
    "inversion-0": (INVERSION, 0, "FP32"),
    "inversion-2": (INVERSION, 2, "BF16"),
    "pivotal-2": (PIVOTAL, 2, "FP32"),
    "pivotal-teacher-0": (PIVOTAL | TEACHER, 0, "FP32"),
    "buckets-2": (BUCKETS, 2, "FP32"),
    "buckets-teacher-1": (BUCKETS | TEACHER, 1, "FP32"),
    "buckets-alone-0": (BUCKETS | {"priorPreservation": {"mode": "Disabled"}}, 0, "FP32"),
}
"""A method and its prior, ZeRO stage, precision."""
SHORT_METHODS = ("lora-8bit-2", "lora-prodigy-0", "inversion-ema-0", "pivotal-2", "buckets-2")


@pytest.mark.parametrize(
    ("workers", "cases"),
    [
        pytest.param(2, SHORT_METHODS, id="2-short"),
        pytest.param(1, tuple(METHODS), id="1-whole", marks=pytest.mark.exhaustive),
        pytest.param(2, tuple(METHODS), id="2-whole", marks=pytest.mark.exhaustive),
    ],
)
def test_every_method_resumes_to_the_same_bytes_and_saves_only_what_it_trains(
    tmp_path, run_ranks, entry_of, tiny_base, workers, cases
):
    methods = {name: METHODS[name] for name in cases}
    wholes = {
        name: entry_of(tmp_path / name, name, workers, stage, precision, method=method)
        for name, (method, stage, precision) in methods.items()
    }
    undisturbed, code, errors = run_ranks(tmp_path / "whole.json", list(wholes.values()), workers)
    assert code == 0, errors

    resumed = []
    for name, (method, stage, precision) in methods.items():
        root = tmp_path / f"resumed-{name}"
        keep_first_checkpoint(Path(wholes[name]["root"]), root)
        resumed.append(entry_of(root, name, workers, stage, precision, method=method))
    continued, code, errors = run_ranks(tmp_path / "resumed.json", resumed, workers)
    assert code == 0, errors
    assert set(undisturbed) == set(cases)
    assert continued == undisturbed
    assert len(set(undisturbed.values())) > len(cases) / 2, "what differs must matter"

    of_base = sum(path.stat().st_size for path in tiny_base.rglob("*.safetensors"))
    for entry in wholes.values():
        root = Path(entry["root"])
        (model,) = (root / "models" / "default" / "tiny").glob("[0-9a-f]" * 64)
        last = root / "run" / "checkpoints" / f"step-{STEPS:08d}"
        for folder, share in ((model, 0.3), (last, 2.0)):
            weights = [*folder.rglob("*.safetensors"), *folder.rglob("*.pt")]
            assert 0 < sum(path.stat().st_size for path in weights) < share * of_base


def test_workers_that_are_started_again_continue_and_publish_the_same_bytes(
    tmp_path, run_ranks, entry_of
):
    """As Ray would start them: with the task of the first time, which knows of no checkpoint."""
    whole = entry_of(tmp_path / "whole", "whole", 2, 2, "FP32")
    again = entry_of(tmp_path / "again", "again", 2, 2, "FP32", fail_after=3)
    published, code, errors = run_ranks(tmp_path / "tasks.json", [whole, again], 2)
    assert code == 0, errors
    assert published["again"] == published["whole"]
    assert (tmp_path / "again" / "steps").read_text().split() == ["1", "2", "3", "3", "4", "5"]


AVERAGED_STEPS = 3
SHORT_AVERAGES = [(3, "FP32", "None")]


def averaged(weights, decay):
    """The closed form of EMA over the weights of steps 1, 2, ...: the first is the average of itself."""
    mean = weights[0]
    for step, now in enumerate(weights[1:], 1):
        kept = min(decay, (1 + step) / (10 + step))
        mean = {name: kept * mean[name] + (1 - kept) * now[name] for name in now}
    return mean


@pytest.mark.parametrize(
    ("workers", "cases"),
    [
        pytest.param(2, SHORT_AVERAGES, id="2-short"),
        pytest.param(1, MATRIX, id="1-whole", marks=pytest.mark.exhaustive),
        pytest.param(2, MATRIX, id="2-whole", marks=pytest.mark.exhaustive),
    ],
)
def test_the_moving_average_of_the_steps_is_published_and_resumes_to_the_same_bytes(
    tmp_path, run_ranks, entry_of, workers, cases
):
    """A grid of the average is drawn after each step: the next one is none the wiser."""

    def entry(name, case, steps, training=None):
        changes = {
            "training": {"maxSteps": steps} | (training or {}),
            "validation": GRID | {"everySteps": 1},
        }
        return entry_of(tmp_path / name, name, workers, *case, method=changes)

    steps = range(1, AVERAGED_STEPS + 1)
    precisions = {precision for _, precision, _ in cases}
    plain = [entry(f"{p}-{n}", (2, p, "None"), n) for p in sorted(precisions) for n in steps]
    ema = {"ema": {"decay": "0.2"}}
    wholes = {
        "-".join(map(str, case)): entry("-".join(map(str, case)), case, AVERAGED_STEPS, ema)
        for case in cases
    }
    undisturbed, code, errors = run_ranks(
        tmp_path / "whole.json", [*plain, *wholes.values()], workers
    )
    assert code == 0, errors
    for (name, whole), (_, precision, _) in zip(wholes.items(), cases, strict=True):
        each = [published_unet(tmp_path / f"{precision}-{step}") for step in steps]
        found = published_unet(Path(whole["root"]))
        expected = averaged(each, 0.2)
        assert mean_difference(found, expected) < STAGE_TOLERANCE[precision] / 10, name
        assert mean_difference(found, each[-1]) > STAGE_TOLERANCE[precision] / 5, name

    resumed = []
    for name, case in zip(wholes, cases, strict=True):
        keep_first_checkpoint(Path(wholes[name]["root"]), tmp_path / f"resumed-{name}")
        again = entry(f"resumed-{name}", case, AVERAGED_STEPS, ema)
        resumed.append(again | {"name": name})
    continued, code, errors = run_ranks(tmp_path / "resumed.json", resumed, workers)
    assert code == 0, errors
    assert continued == {name: undisturbed[name] for name in wholes}


DEATHS = {
    **{f"after-{step}": {"die_after": step} for step in range(1, STEPS + 1)},
    **{f"within-{step}": {"die_within_checkpoint": step} for step in (2, 4)},
}


@pytest.mark.parametrize(
    ("workers", "moments"),
    [
        pytest.param(2, ("after-3", "within-4"), id="2-short"),
        pytest.param(1, tuple(DEATHS), id="1-whole", marks=pytest.mark.exhaustive),
        pytest.param(2, tuple(DEATHS), id="2-whole", marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_killed_at_any_moment_resumes_to_the_same_bytes(
    tmp_path, run_ranks, entry_of, workers, moments
):
    deaths = {"whole": {}, **{moment: DEATHS[moment] for moment in moments}}
    entries = []
    for name, death in deaths.items():
        for again in [{}] if not death else [death, {}]:
            entry = entry_of(tmp_path / name, name, workers, 2, "FP32")
            entries.append(entry | again | {"port": free_port()})
    published, code, errors = run_ranks(tmp_path / "tasks.json", entries, workers)
    assert code == 0, errors
    assert set(published) == set(deaths), errors
    assert set(published.values()) == {published["whole"]}


STOPS = {
    "before anything": (Phase.STARTING, 0, []),
    "class images": (Phase.CLASS_IMAGES, 0, []),
    "caching": (Phase.CACHING, 0, []),
    "step 1": (Phase.TRAINING, 0, [1]),
    "a checkpoint": (Phase.CHECKPOINTING, 2, [2, 3]),
    "the last checkpoint": (Phase.CHECKPOINTING, STEPS, [2, 4, STEPS]),
}
"""What a run does, and how many steps it has done, when it is asked to stop; the checkpoints it leaves."""


def checkpoints(root):
    return sorted((root / "run" / "checkpoints").glob("step-*"))


def test_a_run_stopped_in_any_phase_saves_what_is_new_and_publishes_the_same_bytes(
    tmp_path, run_ranks, entry_of
):
    def run(stops):
        entries = [entry_of(tmp_path / name, name, 1, 2, "FP32") for name in stops]
        entries = [
            entry if stop is None else entry | {"stop_on": stop}
            for entry, stop in zip(entries, stops.values(), strict=True)
        ]
        published, code, errors = run_ranks(tmp_path / "tasks.json", entries, 1)
        assert code == 0, errors
        return published

    def on_disk():
        return [
            (path, path.stat().st_ino) for name in STOPS for path in checkpoints(tmp_path / name)
        ]

    stops = {name: (phase, step) for name, (phase, step, _) in STOPS.items()}
    published = run(stops | {"export": (Phase.EXPORTING, STEPS)})
    whole = published.pop("export")
    assert whole, "an export that has begun is finished"
    assert published == dict.fromkeys(STOPS)
    for name, (_, _, saved) in STOPS.items():
        assert read_progress(tmp_path / name / "run" / PROGRESS_FILE).phase is Phase.INTERRUPTED
        assert [int(path.name[5:]) for path in checkpoints(tmp_path / name)] == saved

    # Stopped again before a new step there is nothing to save.
    before = on_disk()
    phases = itertools.cycle((Phase.STARTING, Phase.CLASS_IMAGES, Phase.CACHING))
    stops = {name: (next(phases), max(saved, default=0)) for name, (_, _, saved) in STOPS.items()}
    assert run(stops) == dict.fromkeys(STOPS)
    assert on_disk() == before

    assert run(dict.fromkeys(STOPS)) == dict.fromkeys(STOPS, whole)


def test_a_stop_that_finds_no_room_says_that_nothing_was_saved(tmp_path, run_ranks, entry_of):
    entry = entry_of(tmp_path / "run", "run", 1, 2, "FP32", disk_full=[1, 0])
    published, code, errors = run_ranks(
        tmp_path / "tasks.json", [entry | {"stop_on": (Phase.TRAINING, 0)}], 1
    )
    assert (published, code) == ({}, 1)
    assert "told to stop and step 1 could not be saved: DiskFull" in errors


@pytest.mark.parametrize(("workers", "full_rank"), [(1, 0), (2, 1)])
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    tmp_path, run_ranks, entry_of, workers, full_rank
):
    root = tmp_path / "run"
    entry = entry_of(root, "run", workers, 2, "FP32", disk_full=[4, full_rank])
    published, code, errors = run_ranks(tmp_path / "tasks.json", [entry], workers)
    assert code == 0, errors
    assert published["run"]
    progress = read_progress(root / "run" / PROGRESS_FILE)
    assert progress.conditions == ("CheckpointFailed/DiskFull: step 4 was not saved",)
    assert [path.name for path in checkpoints(root)] == ["step-00000002", "step-00000005"]
