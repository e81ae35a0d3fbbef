"""One process of our training loop with a time stamp after each step: `python -m benchmarks.time_ours JOB OUT`.

The same worker that Ray Train runs, in a process group of one.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from darkroom_api.load import load_job
from darkroom_trainer.driver.run import RunOptions, prepare
from darkroom_trainer.training import loop
from darkroom_trainer.training.deepspeed_config import prepare_environment


def main() -> None:
    """Runs the job and writes times, losses, seconds spent on class images and the peak of GPU memory."""
    job_file, out = Path(sys.argv[1]), Path(sys.argv[2])
    job = load_job(job_file)
    use_gpu = job.spec.scale.gpus_per_worker > 0
    prepare_environment(use_gpu=use_gpu)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29555",
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
    }
    stamps: list[float] = []
    losses: list[float] = []
    prior_seconds = 0.0
    train_step, complete_prior = loop._train_step, loop._complete_prior

    def timed_step(*arguments: object) -> loop.StepStats:
        stats = train_step(*arguments)  # type: ignore[arg-type]
        stamps.append(time.perf_counter())
        losses.append(stats.losses.total)
        return stats

    def timed_prior(*arguments: object) -> bool:
        nonlocal prior_seconds
        begun = time.perf_counter()
        done = complete_prior(*arguments)  # type: ignore[arg-type]
        prior_seconds = time.perf_counter() - begun
        return done

    loop._train_step, loop._complete_prior = timed_step, timed_prior
    work = out.parent / "work"
    task = prepare(job, RunOptions(job_folder=job_file.parent, work_dir=work)).task
    task.run_folder.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("nccl" if use_gpu else "gloo")
    loop.run_worker(task)
    dist.destroy_process_group()
    found = {"stamps": stamps, "losses": losses, "prior_seconds": prior_seconds}
    if use_gpu:
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
