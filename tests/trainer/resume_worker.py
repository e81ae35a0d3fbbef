"""The ranks of the resume tests: `python resume_worker.py BASE`, asked over its standard input.

Each line it reads is a run, `{"tasks": FILE, "world_size": N}`: N forks, which have imported everything
already since starting torch costs more than training the tiny model, run the trainer's own worker for
each task of the file. Rank 0 prints the digests of the models into FILE.out; FILE.err has its errors.
The answer is a line with its exit code. Tasks that have a port run in a child each, which may kill itself.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from darkroom_api.job import PersonalizationJob, Precision
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.output.checkpoint import newest_checkpoint
from darkroom_trainer.progress.rank0 import Reporter
from darkroom_trainer.progress.snapshot import Phase
from darkroom_trainer.stopping import clear_stop, request_stop
from darkroom_trainer.training import engine, loop
from darkroom_trainer.training.deepspeed_config import prepare_environment
from darkroom_trainer.worker_task import WorkerTask


def in_fp16(job):
    """A job in FP16 without a GPU, which no user may have; this CPU does it, if slowly."""
    get_accelerator().is_fp16_supported = lambda: True
    scale = job.spec.scale.model_copy(update={"precision": Precision.FP16})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"scale": scale})})


def build_task(entry):
    job = PersonalizationJob.model_validate_json(entry["job"])
    if entry["fp16"]:
        job = in_fp16(job)
    root = Path(entry["root"])
    run_folder = root / "run"
    run_folder.mkdir(parents=True, exist_ok=True)
    found, _ = newest_checkpoint(run_folder, job.metadata)
    return WorkerTask(
        job=job,
        base=inspect_base(job.spec.base_model.uri, Path(entry["base"])),
        photos_folder=Path(entry["photos"]),
        run_folder=run_folder,
        class_images_root=Path(entry["class_images"]),
        registry_root=root / "models",
        resume_from=found,
        threads=1,
    )


def die_after(step):
    """Kills this process after a step, before anything else."""
    train_step = loop._train_step

    def train_then_die(*arguments):
        stats = train_step(*arguments)
        if arguments[3] + 1 == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return stats

    loop._train_step = train_then_die


def die_within_checkpoint(step):
    """Kills this process when a checkpoint's files are written and its manifest is not."""
    save_engine = engine.save_engine

    def save_then_die(ds_engine, folder):
        failure = save_engine(ds_engine, folder)
        if ds_engine.global_steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return failure

    engine.save_engine = save_then_die


def fail_once_after(step, steps_file):
    """Raises an error once, as a rank does whose peer is gone; notes on rank 0 which steps are done."""
    train_step, failures = loop._train_step, ["Connection closed by peer"]

    def train_then_fail(*arguments):
        stats = train_step(*arguments)
        if dist.get_rank() == 0:
            with steps_file.open("a") as file:
                file.write(f"{arguments[3] + 1} ")
        if failures and arguments[3] + 1 == step:
            raise RuntimeError(failures.pop())
        return stats

    loop._train_step = train_then_fail


@contextlib.contextmanager
def stopped_on(phase, step, run_folder):
    """Asks to stop when a phase is entered with so many steps done, or before anything is done."""
    enter = Reporter.enter

    def enter_then_stop(reporter, entered, total=0):
        enter(reporter, entered, total)
        progress = reporter._progress
        if progress is not None and entered == phase and progress.latest.step == step:
            request_stop(run_folder)

    if phase == Phase.STARTING:
        request_stop(run_folder)
    Reporter.enter = enter_then_stop
    yield
    Reporter.enter = enter


def fill_disk(step, rank):
    """Lets one rank find no room for its files while that step's checkpoint is written."""
    save_checkpoint = loop._save_checkpoint

    def save_without_room(task, ds_engine, state, reporter):
        full = state.step == step and dist.get_rank() == rank
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if full else hard, hard))
        failure = save_checkpoint(task, ds_engine, state, reporter)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        return failure

    loop._save_checkpoint = save_without_room


def run_entry(entry):
    if "die_after" in entry:
        die_after(entry["die_after"])
    if "die_within_checkpoint" in entry:
        die_within_checkpoint(entry["die_within_checkpoint"])
    if "disk_full" in entry:
        fill_disk(*entry["disk_full"])
    task = build_task(entry)
    clear_stop(task.run_folder)  # as a driver does
    dist.barrier()
    if "fail_after" in entry:
        fail_once_after(entry["fail_after"], Path(entry["root"]) / "steps")
        with contextlib.suppress(RuntimeError):
            loop.run_worker(task)
    with contextlib.ExitStack() as stack:
        if "stop_on" in entry:
            stack.enter_context(stopped_on(*entry["stop_on"], task.run_folder))
        result = loop.run_worker(task)
    if dist.get_rank() == 0:
        print(json.dumps({"name": entry["name"], "digest": result.model_digest}), flush=True)


def run_together(entries):
    dist.init_process_group("gloo")
    for entry in entries:
        run_entry(entry)
    dist.destroy_process_group()


def run_apart(entry):
    """Runs an entry in a child of its own."""
    child = os.fork()
    if child == 0:
        os.environ["MASTER_PORT"] = entry["port"]
        run_together([entry])
        os._exit(0)
    os.waitpid(child, 0)


def run_rank(rank, request):
    """Runs in a fork; does not return."""
    tasks = Path(request["tasks"])
    outputs = [tasks.with_suffix(f".{end}") if rank == 0 else os.devnull for end in ("out", "err")]
    for number, output in enumerate(outputs, 1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    workers = str(request["world_size"])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": workers, "LOCAL_WORLD_SIZE": workers}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": request["port"]}
    code = 1
    try:
        entries = json.loads(tasks.read_text())
        if "port" in entries[0]:
            for entry in entries:
                run_apart(entry)
        else:
            run_together(entries)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_ranks(request):
    """The exit code of rank 0."""
    ranks = []
    for rank in range(request["world_size"]):
        child = os.fork()
        if child == 0:
            run_rank(rank, request)
        ranks.append(child)
    first, *others = ranks
    _, status = os.waitpid(first, 0)
    for rank in others:
        # A rank whose peer was killed waits for it: killed too, as a node's death would.
        if status:
            os.kill(rank, signal.SIGKILL)
        os.waitpid(rank, 0)
    return os.waitstatus_to_exitcode(status)


def main():
    prepare_environment(use_gpu=False)
    loop.load_base(Path(sys.argv[1]), torch.device("cpu"))  # imports what is slow to import
    for line in sys.stdin:
        print(json.dumps(run_ranks(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
