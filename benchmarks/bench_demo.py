"""How long `darkroom demo` takes, in seconds and in units of the machine's own speed.

It runs alone, then beside a program that takes one core; a fixed piece of torch's work runs before and
after, so that two machines, or one at two moments, can be compared. `--parts help machine` is a short
form, which writes no results.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Final

import psutil
from benchmarks.shown import show

from darkroom_api.run_layout import PROGRESS_FILE
from darkroom_trainer.progress.snapshot import read_progress

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = Path(__file__).parent / "results" / "demo.json"
PROGRESS: Final = ROOT / "demo" / "work" / "default" / "mascot" / PROGRESS_FILE
SHEET: Final = ROOT / "demo" / "contact-sheet.png"

PARTS: Final = ("help", "machine", "quiet", "busy")

POLL_SECONDS: Final = 0.1

HELP_RUNS: Final = 5
"""The quickest of these counts: it is the command's own time."""

WORK: Final = """
import time, torch
torch.manual_seed(0)
matrix, image = torch.rand(768, 768), torch.rand(8, 64, 32, 32)
conv = torch.nn.Conv2d(64, 64, 3, padding=1)
def work():
    for _ in range(60):
        (matrix @ matrix).sum()
        conv(image).sum().backward()
work()
begun = time.perf_counter()
for _ in range(5):
    work()
print(time.perf_counter() - begun)
"""
"""A fixed amount of what training does: matrix products and convolutions, on all cores."""


@dataclass(frozen=True)
class DemoRun:
    """One run of the demo."""

    seconds: float
    peak_mib: float

    phases: dict[str, float]
    """Seconds of each phase, in their order."""


def main() -> None:
    """Measures, prints tables and writes results/demo.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parts = parser.parse_args().parts
    figures = measure(parts)
    show("darkroom demo", figures)
    if set(parts) == set(PARTS):
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


def measure(parts: list[str]) -> dict[str, float]:
    """The figures of the parts that were asked for."""
    figures: dict[str, float] = {}
    machine = []
    if "help" in parts:
        figures["help_seconds"] = min(help_seconds() for _ in range(HELP_RUNS))
    if "machine" in parts:
        machine.append(machine_seconds())
    if "quiet" in parts:
        quiet = run_demo()
        figures |= {"demo_seconds": quiet.seconds, "peak_mib": quiet.peak_mib}
        show("phases of the demo, in seconds", quiet.phases)
        figures |= {f"phase_{name}_seconds": spent for name, spent in quiet.phases.items()}
    if "machine" in parts:
        machine.append(machine_seconds())
        figures["machine_seconds"] = mean(machine)
    if "busy" in parts:
        with one_core_taken():
            figures["demo_busy_seconds"] = run_demo().seconds
    for name, above, below in (
        ("demo_ratio", "demo_seconds", "machine_seconds"),
        ("demo_busy_ratio", "demo_busy_seconds", "demo_seconds"),
    ):
        if {above, below} <= figures.keys():
            figures[name] = figures[above] / figures[below]
    return {name: round(value, 3) for name, value in figures.items()}


def help_seconds() -> float:
    """Time of `darkroom --help`."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "darkroom", "--help"], capture_output=True, check=True)
    return time.perf_counter() - begun


def machine_seconds() -> float:
    """Time of the fixed work on this machine, now."""
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    return float(done.stdout)


@contextmanager
def one_core_taken() -> Iterator[None]:
    """Another program computes as long as the context lasts."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


def run_demo() -> DemoRun:
    """Runs the demo and watches its phases and its memory."""
    SHEET.unlink(missing_ok=True)
    PROGRESS.unlink(missing_ok=True)
    spent: Counter[str] = Counter()
    peak = 0
    begun = last = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "darkroom", "demo"], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as demo:
        whole = psutil.Process(demo.pid)
        while demo.poll() is None:
            time.sleep(POLL_SECONDS)
            now = time.perf_counter()
            spent[phase()] += now - last
            peak, last = max(peak, memory_bytes(whole)), now
    if demo.returncode or not SHEET.exists():
        sys.exit("the demo failed")
    return DemoRun(time.perf_counter() - begun, peak / 2**20, dict(spent))


def phase() -> str:
    """What the demo is doing, in a word: its own, or that of the training's snapshot."""
    snapshot = read_progress(PROGRESS)
    if snapshot is None:
        return "before"
    name = snapshot.phase.value.lower()
    return "drawing" if name == "finished" else name


def memory_bytes(process: psutil.Process) -> int:
    """What a process and all below it hold; what they share is counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total


if __name__ == "__main__":
    main()
