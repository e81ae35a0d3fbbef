"""Reads what this machine has: processor cores, free memory and GPUs."""

import os
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What a run can use."""

    cpus: int
    """Cores that this process may run on."""

    memory_bytes: int
    """Memory that is free now, within the container's limit."""

    gpus: int
    """GPUs that torch can see."""


def read_machine() -> Machine:
    """The machine that this process is on; imports torch only where there is a GPU driver."""
    return Machine(
        cpus=len(os.sched_getaffinity(0)), memory_bytes=_free_memory(), gpus=_count_gpus()
    )


def _free_memory() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    free = int(kibibytes) * 1024
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except FileNotFoundError:  # not in a version 2 control group
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def _count_gpus() -> int:
    if not Path("/proc/driver/nvidia").is_dir():
        return 0
    import torch

    return torch.cuda.device_count()
