"""Whether the kernel killed a worker at its container's memory limit: a container that lives on tells nobody.

A process that is killed alone leaves its container running, so that Kubernetes never says `OOMKilled`
(kubelets on version 1 of the control groups, and those with `singleProcessOOMKill`). Each worker notes
the kernel's count when it starts; when one has died, its node is asked for the count again.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from darkroom_api.integrity import write_atomically
from darkroom_api.run_layout import worker_note

CGROUPS: Final = Path("/sys/fs/cgroup")
"""Where the hierarchies of control groups are mounted (cgroups(7))."""

ASK_SECONDS: Final = 20.0
"""How long a node may take to answer; one that takes longer has more than a dead process."""


def oom_kills(own_groups: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> int:
    """Processes that the kernel has killed for memory in this process's control group, since that exists."""
    for file in _counters(own_groups, root):
        if file.is_file() and (found := re.search(r"^oom_kill (\d+)$", file.read_text(), re.M)):
            return int(found[1])
    return 0


def _counters(own_groups: Path, root: Path) -> Iterator[Path]:
    """Files that may hold the count: below the group's path, or, inside a container, at the mount itself."""
    for line in own_groups.read_text().splitlines() if own_groups.is_file() else ():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            mount, name = root / "memory", "memory.oom_control"
        elif number == "0":
            mount, name = root, "memory.events"
        else:
            continue
        yield mount / path.lstrip("/") / name
        yield mount / name


def note_start(run_folder: Path, rank: int, node: str) -> None:
    """Called by each worker as it starts, with Ray's id of its node."""
    note = {"node": node, "oomKills": oom_kills()}
    with suppress(OSError):  # a full disk is told of where it costs something
        write_atomically(_note(run_folder, rank), json.dumps(note).encode())


def nodes_with_oom_kills(run_folder: Path, workers: int) -> list[str]:
    """Ray ids of the nodes where a process was killed for memory since their worker started.

    Nodes that are gone, or don't answer, are not among them.
    """
    notes = (_note(run_folder, rank) for rank in range(workers))
    found = [json.loads(note.read_bytes()) for note in notes if note.is_file()]
    before = {note["node"]: note["oomKills"] for note in found}
    return [node for node, count in before.items() if _count_on(node) > count]


def _count_on(node: str) -> int:
    """The count now; 0 of a node that is gone, or doesn't answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    count = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(oom_kills)
    try:
        return int(ray.get(count.remote(), timeout=ASK_SECONDS))
    except ray.exceptions.RayError:  # also a timeout
        return 0


def _note(run_folder: Path, rank: int) -> Path:
    return run_folder / worker_note(rank)
