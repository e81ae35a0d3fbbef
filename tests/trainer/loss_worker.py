"""The losses of jobs: `python loss_worker.py TASKS.json` prints a line for each of their steps.

Runs the trainer's own worker without Ray. A rank is a fork that has imported everything already,
since starting torch costs more than training the tiny model.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from darkroom_api.job import PersonalizationJob
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.progress.rank0 import Reporter
from darkroom_trainer.training import loop
from darkroom_trainer.training.deepspeed_config import prepare_environment
from darkroom_trainer.worker_task import WorkerTask


def build_task(entry):
    job = PersonalizationJob.model_validate_json(entry["job"])
    root = Path(entry["root"])
    (root / "run").mkdir(parents=True, exist_ok=True)
    return WorkerTask(
        job=job,
        base=inspect_base(job.spec.base_model.uri, Path(entry["base"])),
        photos_folder=Path(entry["photos"]),
        run_folder=root / "run",
        class_images_root=root / "class-images",
        registry_root=root / "models",
        resume_from=None,
        threads=1,
    )


def print_losses(name):
    """Prints what rank 0 reports: neither progress nor trackers keep every step."""
    report_step = Reporter.step

    def print_and_report(reporter, step, losses, **figures):
        if dist.get_rank() == 0:
            values = [losses.total, losses.instance, losses.prior]
            print(json.dumps({"name": name, "losses": values}), flush=True)
        report_step(reporter, step, losses, **figures)

    Reporter.step = print_and_report


def run_rank(rank, entry, task):
    workers = str(task.job.spec.scale.workers)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": workers, "LOCAL_WORLD_SIZE": workers}
    meeting = f"file://{entry['root']}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=int(workers))
    print_losses(entry["name"])
    loop.run_worker(task)
    dist.destroy_process_group()


def main():
    prepare_environment(use_gpu=False)
    entries = json.loads(Path(sys.argv[1]).read_text())
    loop.load_base(Path(entries[0]["base"]), torch.device("cpu"))  # imports what is slow to import
    for entry in entries:
        task = build_task(entry)
        workers = task.job.spec.scale.workers
        start_processes(run_rank, (entry, task), workers, start_method="fork")


if __name__ == "__main__":
    main()
