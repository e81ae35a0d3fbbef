"""The trainer on one GPU: models of the published shapes, FP16 and BF16, ZeRO 0 to 2, Full and LoRA.

    python -m benchmarks.trainer.gpu                       # all cases: a table and results/trainer_gpu.json
    python -m benchmarks.trainer.gpu --shapes sd15 --steps 800 --precisions FP16 --stages 1
    python -m benchmarks.trainer.gpu --shapes tiny --cpu   # whether the benchmark itself works

Weights are random, so that nothing has to be downloaded: they are as fast as the published ones. Each case
is a process of its own with the loop that `darkroom train` runs; a step is one instance and one class
image. `seconds_for_800_steps` is 800 times the median step after the first ten.
"""

import argparse
import itertools
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.bench_trainer import WARM_UP, measured
from benchmarks.jobs import write_job
from benchmarks.shown import show
from benchmarks.trainer.shapes import SHAPES, Shape

from darkroom_api.job import Precision
from darkroom_api.training import Method

RESULTS: Final = Path(__file__).parents[1] / "results" / "trainer_gpu.json"
JOB_STEPS: Final = 800
"""Steps of a usual DreamBooth training, for which the figures are given."""


@dataclass(frozen=True)
class Case:
    """What is measured by itself."""

    shape: Shape
    method: Method
    precision: Precision
    zero_stage: int

    @property
    def name(self) -> str:
        parts = (self.shape.name, self.method, self.precision, f"zero_{self.zero_stage}")
        return "_".join(parts).lower()


def main() -> None:
    """Measures, prints a table and writes results/trainer_gpu.json."""
    options = _options()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        for shape in options.shapes:
            base = Path(folder) / shape.name
            shape.write(base)
            for case in cases(shape, options):
                figures |= run(case, base, Path(folder), options)
    figures = {name: round(value, 3) for name, value in figures.items()}
    show(f"One step is 1 + 1 images, on {device(use_cpu=options.cpu)}", figures)
    if not options.cpu:
        about = {"device": device(use_cpu=False), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        RESULTS.write_text(json.dumps(about | figures, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    named = {shape.name: shape for shape in SHAPES}
    parser.add_argument("--shapes", nargs="+", choices=named, default=["sd15", "sdxl"])
    parser.add_argument("--methods", nargs="+", type=Method, default=[Method.FULL, Method.LORA])
    precisions = [Precision.FP16, Precision.BF16]
    parser.add_argument("--precisions", nargs="+", type=Precision, default=precisions)
    parser.add_argument("--stages", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--cpu", action="store_true", help="without a GPU, in FP32")
    options = parser.parse_args()
    if options.steps <= WARM_UP + 1:
        parser.error(f"--steps must be more than {WARM_UP + 1}")
    options.shapes = [named[name] for name in options.shapes]
    if options.cpu:
        options.precisions = [Precision.FP32]
    return options


def cases(shape: Shape, options: argparse.Namespace) -> Iterable[Case]:
    """All that is measured of a shape, once: in 16 bits the trainer makes stage 0 a stage 1."""
    found = {}
    for method, precision, stage in itertools.product(
        options.methods, options.precisions, options.stages
    ):
        least = 0 if precision is Precision.FP32 else 1
        found[Case(shape, method, precision, max(least, stage))] = None
    return found


def run(case: Case, base: Path, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """The figures of a case, by its name."""
    file = write_job(
        folder,
        case.name.replace("_", "-"),
        base,
        "builtin:mascot",
        # Few and rough class images, for they are not what is measured.
        priorPreservation={"numImages": 8, "samplingSteps": 5, "guidanceScale": "2.0"},
        training={
            "method": case.method,
            "maxSteps": options.steps,
            "resolution": case.shape.resolution,
            "batchSizePerWorker": 1,
        },
        scale={
            "gpusPerWorker": 0 if options.cpu else 1,
            "precision": case.precision,
            "zeroStage": case.zero_stage,
        },
    )
    out = folder / f"{case.name}.json"
    found = measured("benchmarks.time_ours", out, [str(file), str(out)])
    stamps = found["stamps"][WARM_UP:]
    seconds = statistics.median(later - earlier for earlier, later in itertools.pairwise(stamps))
    figures = {
        f"{case.name}_steps_per_second": 1 / seconds,
        f"{case.name}_seconds_for_{JOB_STEPS}_steps": seconds * JOB_STEPS,
    }
    if "peak_gib" in found:
        figures[f"{case.name}_peak_gib"] = found["peak_gib"]
    return figures


def device(*, use_cpu: bool) -> str:
    """On what it was measured, in words."""
    if use_cpu:
        return f"{platform.machine()} without a GPU"
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch finds no GPU here: --cpu tells whether the benchmark itself works")
    return torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
