"""Reads what this machine has: processor cores, free memory and GPUs."""

import math
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What a run can use."""

    cpus: int
    """Cores that this process may use, within the container's limit."""

    memory_bytes: int
    """Memory that is free now, within the container's limit."""

    gpus: int
    """GPUs that torch can see."""

    has_bitsandbytes: bool = False
    """Whether optimizers with 8-bit states are installed."""


def read_machine() -> Machine:
    """The machine that this process is on; imports torch only where there is a GPU driver."""
    return Machine(
        cpus=count_cpus(),
        memory_bytes=_free_memory(),
        gpus=_count_gpus(),
        has_bitsandbytes=find_spec("bitsandbytes") is not None,
    )


def count_cpus() -> int:
    """Cores that this process may use: a pod sees all of its node's, and has those of its limit."""
    seen, limit = len(os.sched_getaffinity(0)), _cpu_limit()
    return seen if limit is None else min(seen, math.ceil(limit))


def _cpu_limit() -> float | None:
    """CPUs of the control group, of version 2 or 1; None without a limit."""
    try:
        if (_CGROUP / "cpu.max").exists():
            quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (_CGROUP / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (_CGROUP / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii")
    except FileNotFoundError:  # the root control group
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def threads_here() -> int:
    """CPU threads for a worker among those of its machine, as torch's launchers count them."""
    return max(1, count_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


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
