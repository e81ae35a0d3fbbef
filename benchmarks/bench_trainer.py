"""Our training loop beside diffusers' DreamBooth script: same model, photos, batch and precision.

The sides run alternately, each in a process of its own with all cores; what is compared is the
median time of a step after the first ten. Ours runs twice: with ZeRO stage 0, which like theirs has
one process and nothing to shard, and with stage 2, to show what sharding costs where it gains
nothing. Checked in the same run: all have the same loss on average (they draw different noise), so
all do the same work.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.jobs import write_job
from benchmarks.photo import photo_figures
from benchmarks.shown import show

from darkroom_api.builtin import builtin_folder

STEPS: Final = 40
WARM_UP: Final = 10
ROUNDS: Final = 2
BATCH: Final = 4
CLASS_IMAGES: Final = 16
CLASS_PROMPT: Final = "a photo of a dog"
CLASS_STEPS: Final = 10
CLASS_GUIDANCE: Final = "2.0"
LEARNING_RATE: Final = "1e-5"
"""Small, so that both sides keep measuring the loss of the base model."""

LOSS_TOLERANCE: Final = 0.2
"""Relative difference of the mean losses; both average some 400 noise levels."""

RESULTS: Final = Path(__file__).parent / "results" / "trainer.json"
REQUIREMENTS: Final = Path(__file__).parents[1] / "requirements" / "bench.txt"
SCRIPT_ENV: Final = "DIFFUSERS_DREAMBOOTH_SCRIPT"


def main() -> None:
    """Measures, prints a table and writes results/trainer.json."""
    script = os.environ.get(SCRIPT_ENV)
    if script is None or not Path(script).is_file():
        sys.exit(
            f"{SCRIPT_ENV} must be the path of examples/dreambooth/train_dreambooth.py:"
            " git clone https://github.com/huggingface/diffusers"
        )
    with tempfile.TemporaryDirectory(prefix="bench-trainer-") as folder:
        figures = compare(Path(folder), Path(script).resolve())
        figures |= photo_figures(Path(folder), measured)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    show(f"DreamBooth on the miniature, batch {BATCH} + {BATCH}, fp32", figures)


def compare(folder: Path, script: Path) -> dict[str, float]:
    """Runs both sides in turns and returns the figures."""
    install_torchvision(folder / "torchvision")
    base = full_precision_base(folder)
    photos = shutil.copytree(builtin_folder("mascot"), folder / "photos")
    ours: list[dict[str, Any]] = []
    sharded: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for turn in range(ROUNDS):
        ours.append(run_ours(folder, base, photos, f"job-{turn}", zero_stage=0))
        theirs.append(run_theirs(folder, base, photos, script))
        sharded.append(run_ours(folder, base, photos, f"sharded-{turn}", zero_stage=2))
    check_equal_work(ours, theirs)
    check_equal_work(sharded, theirs)
    our_speed, their_speed = steps_per_second(ours), steps_per_second(theirs)
    return {
        "steps_per_second_ratio_cached": round(our_speed / their_speed, 3),
        "steps_per_second": round(our_speed, 3),
        "steps_per_second_zero_2": round(steps_per_second(sharded), 3),
        "steps_per_second_diffusers": round(their_speed, 3),
        "first_job_prior_seconds": round(ours[0]["prior_seconds"], 3),
        "second_job_prior_seconds": round(ours[1]["prior_seconds"], 3),
    }


def install_torchvision(target: Path) -> None:
    """Puts torchvision, which their script needs and ours does not, where only their process looks."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--target", str(target), "-r", str(REQUIREMENTS)], check=True)


def full_precision_base(folder: Path) -> Path:
    """The miniature in fp32: their script wants it, and ours gets the same."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        builtin_folder("miniature"), use_safetensors=True, dtype=torch.float32
    )
    pipeline.save_pretrained(folder / "base", safe_serialization=True)
    return folder / "base"


def run_ours(
    folder: Path, base: Path, photos: Path, name: str, *, zero_stage: int
) -> dict[str, Any]:
    """One run of our loop; jobs share the folder of class images."""
    file = write_job(
        folder,
        name,
        base,
        f"file:{photos}",
        priorPreservation={
            "numImages": CLASS_IMAGES,
            "samplingSteps": CLASS_STEPS,
            "guidanceScale": CLASS_GUIDANCE,
        },
        training={
            "maxSteps": STEPS,
            "learningRate": LEARNING_RATE,
            "resolution": 64,
            "batchSizePerWorker": BATCH,
        },
        scale={"gpusPerWorker": 0, "precision": "FP32", "zeroStage": zero_stage},
    )
    out = folder / "ours.json"
    return measured("benchmarks.time_ours", out, [str(file), str(out)])


def run_theirs(folder: Path, base: Path, photos: Path, script: Path) -> dict[str, Any]:
    """One run of the script; its class images are there already, so that it draws none."""
    classes = folder / "classes"
    if not classes.exists():
        draw_class_images(base, classes)
    out = folder / "theirs.json"
    options = {
        "pretrained_model_name_or_path": base,
        "instance_data_dir": photos,
        "class_data_dir": classes,
        "instance_prompt": "a photo of sks dog",
        "class_prompt": CLASS_PROMPT,
        "num_class_images": CLASS_IMAGES,
        "resolution": 64,
        "train_batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler": "constant",
        "max_train_steps": STEPS,
        "checkpointing_steps": 10_000,
        "output_dir": folder / "theirs",
        "seed": 0,
    }
    flags = ["--with_prior_preservation", "--train_text_encoder"]
    arguments = [f"--{name}={value}" for name, value in options.items()]
    arguments = [str(out), str(script), *arguments, *flags]
    return measured("benchmarks.time_diffusers", out, arguments, folder / "torchvision")


def draw_class_images(base: Path, folder: Path) -> None:
    """What ours draws as latents, as the files that their script reads."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(base, use_safetensors=True)
    pictures = pipeline(
        [CLASS_PROMPT] * CLASS_IMAGES,
        num_inference_steps=CLASS_STEPS,
        guidance_scale=float(CLASS_GUIDANCE),
        generator=torch.Generator().manual_seed(0),
    ).images
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.png")


def measured(
    module: str, out: Path, arguments: list[str], packages: Path | None = None
) -> dict[str, Any]:
    """Runs a side in a process of its own and reads what it wrote."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | ({"PYTHONPATH": str(packages)} if packages else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{module} failed:\n{done.stderr[-3000:]}")
    print(f"{module}: {time.perf_counter() - begun:.0f} s", flush=True)
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def steps_per_second(rounds: list[dict[str, Any]]) -> float:
    """One over the median duration of a step, over all rounds, without the warm-up."""
    durations = [
        after - before
        for run in rounds
        for before, after in zip(
            run["stamps"][WARM_UP:], run["stamps"][WARM_UP + 1 :], strict=False
        )
    ]
    return 1 / statistics.median(durations)


def check_equal_work(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Ends the benchmark when the two sides did not minimise the same loss."""
    our_loss, their_loss = (
        statistics.mean(loss for run in rounds for loss in run["losses"])
        for rounds in (ours, theirs)
    )
    print(f"mean loss: ours {our_loss:.4f}, diffusers {their_loss:.4f}")
    if abs(our_loss - their_loss) > LOSS_TOLERANCE * their_loss:
        sys.exit("the losses differ: the two sides did not do the same work")


if __name__ == "__main__":
    main()
