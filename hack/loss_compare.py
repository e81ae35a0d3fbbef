"""Whether two commits train the same: `python hack/loss_compare.py OLD NEW [--steps N]`.

Trains a small job with the code of each commit, with ZeRO 0 and with ZeRO 2, and shows the losses side
by side. NEW may be `.`: the working tree. Exits 0 for the same losses and the same model, else 1.
Uses only what stays where it is when modules move: the command, TensorBoard's files, the manifest.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]

SOURCES: Final = ("crds", "local", "sampling", "operator", "trainer", "serving", "cli")
"""Source roots of a checkout: they come before what is installed."""

TAGS: Final = ("loss/total", "loss/instance", "loss/prior", "optimizer/grad_norm")
"""What is compared of a step, by the names that TensorBoard shows."""

WORKERS: Final = {0: 1, 2: 2}
"""Workers of each ZeRO stage that is tried. One has nothing to shard: stage 2 has two."""

GLOBAL_BATCH: Final = 2


@dataclass(frozen=True)
class Run:
    """What one training came to."""

    steps: Mapping[int, tuple[float, ...]]
    """The values of `TAGS` by step, of those steps that are logged."""

    digest: str
    """Digest of the published model."""

    files: Mapping[str, str]
    """Digest of each of its files."""


@dataclass(frozen=True)
class Verdict:
    """How two trainings compare."""

    same: bool
    text: str


def compare(old: Run, new: Run) -> Verdict:
    """Whether two trainings are the same, or where they part: bits, not tolerances."""
    common = sorted(old.steps.keys() & new.steps.keys())
    if not common:
        return Verdict(False, "no step is logged in both")
    before = 0
    for step in common:
        if old.steps[step] != new.steps[step]:
            return Verdict(False, f"they part after step {before}, by step {step}")
        before = step
    if old.digest != new.digest:
        paths = sorted(old.files.keys() | new.files.keys())
        other = [path for path in paths if old.files.get(path) != new.files.get(path)]
        return Verdict(False, f"same losses, another digest: {', '.join(other)}")
    return Verdict(True, "same losses, same digest")


def table(old: Run, new: Run) -> list[str]:
    """Both trainings side by side, a step a line."""
    names = [tag.partition("/")[2] for tag in TAGS]
    lines = [_line("step", names, names)]
    for step in sorted(old.steps.keys() | new.steps.keys()):
        sides = ([f"{value:.9g}" for value in run.steps.get(step, ())] for run in (old, new))
        lines.append(_line(str(step), *sides))
    return [*lines, f"digest  {old.digest[:12]} | {new.digest[:12]}"]


def _line(step: str, old: list[str], new: list[str]) -> str:
    left, right = (" ".join(f"{word:>12}" for word in words) for words in (old, new))
    return f"{step:>6} {left:51} | {right}".rstrip()


def job(name: str, zero_stage: int, steps: int) -> dict[str, Any]:
    """A job of seconds that uses all that is drawn: noise, flips, class images, a grid."""
    workers = WORKERS[zero_stage]
    return {
        "apiVersion": "darkroom.dev/v1alpha1",
        "kind": "PersonalizationJob",
        "metadata": {"name": name},
        "spec": {
            "baseModel": {"uri": "builtin:miniature"},
            "subject": {
                "kind": "Animal",
                "identifier": "sks",
                "classNoun": "dog",
                "images": {"uri": "builtin:mascot"},
            },
            "priorPreservation": {"numImages": 8, "samplingSteps": 3, "guidanceScale": "2.0"},
            "training": {
                "maxSteps": steps,
                "learningRate": "3e-4",
                "resolution": 32,
                "gradientAccumulationSteps": GLOBAL_BATCH // workers,
                "horizontalFlip": True,
            },
            "scale": {
                "workers": workers,
                "gpusPerWorker": 0,
                "precision": "FP32",
                "zeroStage": zero_stage,
            },
            "validation": {"everySteps": steps, "prompts": ["a photo of sks dog"]},
            "output": {"uri": "file:models"},
        },
    }


@contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit in a temporary worktree; of `.` where they are."""
    if commit == ".":
        yield ROOT
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def environment(tree: Path) -> dict[str, str]:
    """The environment of a training: the code of a checkout, and no variable that changes a job."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DARKROOM_", "WANDB_"))
    }
    return kept | {"PYTHONPATH": os.pathsep.join(str(tree / source) for source in SOURCES)}


def train(tree: Path, folder: Path, name: str, zero_stage: int, steps: int) -> Run:
    """Trains a job in a folder with the code of a checkout."""
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(job(name, zero_stage, steps)), encoding="utf-8")
    work_dir = folder / name
    options = ["--work-dir", str(work_dir), "--json"]
    events = _python(tree, folder, "-m", "darkroom", "train", file.name, *options)
    result = json.loads(events.splitlines()[-1])
    manifest = json.loads((Path(result["folder"]) / "manifest.json").read_bytes())
    return Run(
        steps=_logged(work_dir),
        digest=result["digest"],
        files={path: entry["sha256"] for path, entry in manifest["files"].items()},
    )


def _python(tree: Path, folder: Path, *arguments: str) -> str:
    """The output of Python in a folder, with the code of a checkout."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(tree),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{tree}: {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def _logged(work_dir: Path) -> dict[int, tuple[float, ...]]:
    """The values of each logged step, from the one file of TensorBoard that a run writes."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = work_dir.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    columns = [{event.step: event.value for event in events.Scalars(tag)} for tag in TAGS]
    return {step: tuple(column[step] for column in columns) for step in columns[0]}


def train_all(commit: str, folder: Path, steps: int) -> dict[int, Run]:
    """Trains with the code of a commit, once for each ZeRO stage; class images are made once."""
    jobs = folder / "jobs"
    jobs.mkdir(parents=True)
    with checkout(commit, folder / "tree") as tree:
        package = _python(tree, jobs, "-c", "import darkroom_trainer as d; print(d.__file__)")
        if not Path(package.strip()).is_relative_to(tree):
            sys.exit(f"{commit}: its own code is not in {', '.join(SOURCES)}")
        return {
            stage: train(tree, jobs, f"zero-{stage}", zero_stage=stage, steps=steps)
            for stage in WORKERS
        }


def main() -> int:
    """Trains, prints and says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", metavar="OLD", help="a commit")
    parser.add_argument("new", metavar="NEW", help="a commit, or . for the working tree")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps (default 20)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loss-compare-") as folder:
        old = train_all(asked.old, Path(folder).resolve() / "old", asked.steps)
        new = train_all(asked.new, Path(folder).resolve() / "new", asked.steps)
    verdicts = []
    for stage, workers in WORKERS.items():
        verdict = compare(old[stage], new[stage])
        print(f"ZeRO {stage}, workers: {workers}; {asked.old} | {asked.new}")
        print("\n".join([*table(old[stage], new[stage]), verdict.text, ""]))
        verdicts.append(verdict)
    return 0 if all(verdict.same for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
