"""Control groups of one cluster: every process under them is the cluster's, pods included.

On cgroup v1 the group stands in every hierarchy, on v2 in the only one. It is the kubelet's root.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from darkroom_testing.cluster.errors import ClusterError

CGROUP = "cgroup"
CGROUP2 = "cgroup2"


def group_name(cluster: str) -> str:
    return f"darkroom-{cluster}"


def hierarchies() -> dict[Path, str]:
    """Where control groups are mounted, and whether they are of version 1 or 2."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return {Path(where): kind for where, kind in mounts if kind in (CGROUP, CGROUP2)}


def _groups(cluster: str) -> list[Path]:
    groups = [root / group_name(cluster) for root in hierarchies()]
    return [group for group in groups if group.exists()]


def _create_version_1(root: Path, group: Path) -> None:
    group.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (root / name).exists():  # a new group has none, and would run nothing
            (group / name).write_text((root / name).read_text())


def _create_version_2(group: Path) -> Path:
    """The group of the daemons: on v2 processes are only in groups without groups."""
    daemons = group / "daemons"
    daemons.mkdir(parents=True, exist_ok=True)
    for controller in (group / "cgroup.controllers").read_text().split():
        with suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
    return daemons


COUNTING = ("pids", "memory")
"""The hierarchies of version 1 that the daemons enter: in a group of `cpu` they would share one part."""


def enter(cluster: str) -> str:
    """Puts this process into the cluster's groups, and returns their path for the kubelet."""
    mounted = hierarchies()
    version_1 = [root / group_name(cluster) for root, kind in mounted.items() if kind == CGROUP]
    for group in version_1:
        _create_version_1(group.parent, group)
    if version_1:
        homes = [group for group in version_1 if group.parent.name in COUNTING]
    elif mounted:
        homes = [_create_version_2(next(iter(mounted)) / group_name(cluster))]
    else:
        raise ClusterError("no control groups are mounted at /sys/fs/cgroup")
    for home in homes:
        (home / "cgroup.procs").write_text(str(os.getpid()))
    return f"/{group_name(cluster)}"


def _processes(group: Path) -> Iterator[int]:
    for file in group.rglob("cgroup.procs"):
        with suppress(OSError):
            yield from (int(line) for line in file.read_text().split())


SLACK = 1 << 20
"""What a group may still get, in bytes, when its limit is lowered to what it uses."""


@dataclass(frozen=True)
class _Memory:
    """How a control group counts memory: the names differ between the versions."""

    limit: Path
    used: Path
    events: Path

    def tighten(self) -> bool:
        """Lowers the limit to what is used; False when more is used by now."""
        with suppress(OSError):
            self.limit.write_text(str(int(self.used.read_text()) + SLACK))
            return True
        return False

    def kills(self) -> int | None:
        """How often the OOM killer struck; None: the group is gone."""
        try:
            lines = [line.split() for line in self.events.read_text().splitlines()]
        except OSError:
            return None
        return next(int(line[1]) for line in lines if line[0] == "oom_kill")


def _memory(pid: int) -> _Memory:
    """The memory of the control group that a process is in."""
    memberships = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().split()]
    groups = {controllers: path.lstrip("/") for _, controllers, path in memberships}
    for root, kind in hierarchies().items():
        if kind == CGROUP and root.name == "memory":
            group = root / groups["memory"]
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control"
        elif kind == CGROUP2 and (root / groups[""] / "memory.max").exists():
            group = root / groups[""]
            names = "memory.max", "memory.current", "memory.events"
        else:
            continue
        return _Memory(*(group / name for name in names))
    raise ClusterError("no control groups count memory here")


FILL = """
echo $$ > "$0/cgroup.procs" && exec 3<> "/dev/shm/$$" && rm "/dev/shm/$$" &&
exec dd if=/dev/zero bs=64k >&3
"""
"""Fills a group with pages that can't be taken back and are of no process: others look larger."""


def exhaust_memory(pid: int, seconds: float = 60) -> None:
    """Makes the OOM killer strike once in the group of a process, whose limit is as before then.

    On version 1 a limit below what is used is refused: it is lowered to that, and the group gets more.

    Raises:
        ClusterError: nothing was killed; or the group is this process's own.
    """
    memory, end = _memory(pid), time.monotonic() + seconds
    if memory == _memory(os.getpid()):
        raise ClusterError(f"process {pid} shares {memory.limit.parent} with the one that asks")
    before, limit = memory.kills(), memory.limit.read_text()
    while not memory.tighten():
        if time.monotonic() > end:
            raise ClusterError(f"{memory.limit} cannot be lowered to what is used")
    command = ["sh", "-c", FILL, str(memory.limit.parent)]
    filling = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while memory.kills() == before:
            ended = filling.poll() is not None and memory.kills() == before
            if ended or time.monotonic() > end:
                raise ClusterError(f"the OOM killer did not strike in {memory.limit.parent}")
            time.sleep(0.01)
    finally:
        filling.kill()
        filling.wait()
        with suppress(OSError):  # the group has ended with its container
            memory.limit.write_text(limit)


def remove(cluster: str, seconds: float = 20) -> None:
    """Kills what is in the cluster's groups, and removes them."""
    end = time.monotonic() + seconds
    while groups := _groups(cluster):
        for pid in {pid for group in groups for pid in _processes(group)} - {os.getpid()}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for group in groups:
            inner = [path for path in group.rglob("*") if path.is_dir()]
            for folder in (*sorted(inner, key=lambda path: -len(path.parts)), group):
                with suppress(OSError):
                    folder.rmdir()
        if time.monotonic() > end:
            raise ClusterError(f"the control groups of {cluster!r} cannot be removed: {groups}")
        time.sleep(0.05)
