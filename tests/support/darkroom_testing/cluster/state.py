"""A cluster's folder: all it writes, who owns it, and which processes it is made of.

The folder is enough to take the cluster down, whoever started it and however that one ended.
"""

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from darkroom_testing.cluster.build import cache_root
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.pki import Authority

MARK = "DARKROOM_CLUSTER_STATE"
"""The environment variable by which a process of the cluster is known: it holds the folder."""


def state_root() -> Path:
    return cache_root() / "state"


def start_time(pid: int) -> str | None:
    """When a living process started, in clock ticks: with its id, it is never used twice."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, threads, started = fields[0], int(fields[17]), fields[19]
    # The first thread is a zombie while others still end, and hold the ports and files.
    return None if state == "Z" and threads <= 1 else started


@dataclass(frozen=True)
class Owner:
    """A process that a cluster belongs to: the one that starts it, or without which it shall not live on."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Owner":
        started = start_time(pid)
        if started is None:
            raise ClusterError(f"there is no process {pid} to own the cluster")
        return cls(pid, started)

    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def __str__(self) -> str:
        with suppress(OSError):
            words = Path(f"/proc/{self.pid}/cmdline").read_text().split("\0")
            return f"process {self.pid} ({' '.join(words).strip()})"
        return f"process {self.pid}"


@dataclass(frozen=True)
class Command:
    """One process of the cluster: what was started, and as which process."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    pid: int
    started: str | None
    """Its start time: the process with this id may be another one later."""
    outside: bool = False
    """Whether it runs outside the cluster's namespaces, in the network of the machine."""

    def alive(self) -> bool:
        return self.started is not None and start_time(self.pid) == self.started


class State:
    """The folder of the cluster with this name."""

    def __init__(self, name: str) -> None:
        # An underscore is not to be in the name of a kubelet's control group.
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", name):
            raise ClusterError(f"{name!r} is no name for a cluster: a-z, 0-9 and '-' may be in it")
        self.name = name
        self.folder = state_root() / name
        self.log_folder = self.folder / "log"
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubectl_cache = self.folder / "kubectl-cache"
        self.audit_log = self.folder / "audit.log"
        self.simulation = self.folder / "simulation.json"
        self.authority = Authority(self.folder / "pki")
        self._meta = self.folder / "state.json"
        self._commands = self.folder / "processes"

    def exists(self) -> bool:
        return self.folder.exists()

    def create(self, tier: str, owner: Owner | None) -> None:
        for folder in (self.log_folder, self._commands, self.folder / "bin"):
            folder.mkdir(parents=True)
        self.folder.chmod(0o711)  # pods look for their volumes in it
        starter = asdict(Owner.of(os.getpid()))
        self.update(tier=tier, starter=starter, owner=asdict(owner) if owner else None, ready=False)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def meta(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(self._meta.read_text())
        except (OSError, ValueError):
            return {}
        return document

    def update(self, **values: object) -> None:
        """Keeps values of the cluster; the file is never seen half-written."""
        temporary = self._meta.with_suffix(".new")
        temporary.write_text(json.dumps({**self.meta(), **values}))
        temporary.replace(self._meta)

    @property
    def tier(self) -> str | None:
        return self.meta().get("tier")

    @property
    def ready(self) -> bool:
        return bool(self.meta().get("ready"))

    @property
    def owner(self) -> Owner | None:
        owner = self.meta().get("owner")
        return Owner(**owner) if owner else None

    def holder(self) -> Owner | None:
        """The living process that the cluster belongs to: who starts it, or else its owner."""
        meta = self.meta()
        found = meta.get("owner"), None if meta.get("ready") else meta.get("starter")
        owners = (Owner(**one) for one in found if one)
        return next((one for one in owners if one.alive()), None)

    def record(self, command: Command) -> None:
        (self._commands / f"{command.name}.json").write_text(json.dumps(asdict(command)))

    def commands(self) -> list[Command]:
        """All processes, in the order in which they were started."""
        files = list(self._commands.glob("*.json"))
        files.sort(key=lambda path: path.stat().st_mtime_ns)
        documents = [json.loads(path.read_text()) for path in files]
        return [Command(**{**one, "argv": tuple(one["argv"])}) for one in documents]

    def command(self, name: str) -> Command:
        for command in self.commands():
            if command.name == name:
                return command
        raise ClusterError(f"the cluster {self.name!r} has no process {name!r}")

    def log(self, name: str) -> Path:
        return self.log_folder / f"{name}.log"

    def owns(self, pid: int) -> bool:
        """Whether this process lives and is one of the cluster's; a moment after its start."""
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return f"{MARK}={self.folder}".encode() in environment.split(b"\0")

    def processes(self) -> set[int]:
        """All living processes of the cluster, also those nobody recorded."""
        pids = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
        found = {pid for pid in pids if self.owns(pid)}
        found |= {command.pid for command in self.commands() if command.alive()}
        return found - {os.getpid()}


def states() -> list[State]:
    """All clusters of this user that have a folder."""
    if not state_root().exists():
        return []
    return [State(path.name) for path in sorted(state_root().iterdir()) if path.is_dir()]
