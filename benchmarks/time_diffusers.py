"""diffusers' DreamBooth script with a time stamp after each step.

`python -m benchmarks.time_diffusers OUT SCRIPT ARGUMENTS…` runs the unchanged script; the stamps are
taken where it clips its gradients, the losses where it logs them.
"""

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import diffusers.utils
from accelerate import Accelerator


def main() -> None:
    """Runs the script and writes the times and losses."""
    out, script = Path(sys.argv[1]), sys.argv[2]
    stamps: list[float] = []
    losses: list[float] = []
    clip, log = Accelerator.clip_grad_norm_, Accelerator.log

    def timed_clip(self: Accelerator, *arguments: Any, **options: Any) -> Any:
        stamps.append(time.perf_counter())
        return clip(self, *arguments, **options)

    def noted_log(self: Accelerator, values: dict[str, Any], *rest: Any, **options: Any) -> None:
        losses.append(float(values["loss"]))
        log(self, values, *rest, **options)

    Accelerator.clip_grad_norm_, Accelerator.log = timed_clip, noted_log
    # The script of a development version asks for that version; the library installed is measured.
    diffusers.utils.check_min_version = lambda version: None
    sys.argv = [script, *sys.argv[3:]]
    runpy.run_path(script, run_name="__main__")
    out.write_text(json.dumps({"stamps": stamps, "losses": losses}))


if __name__ == "__main__":
    main()
