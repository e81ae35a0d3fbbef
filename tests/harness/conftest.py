"""What the harness's own tests compare: all that a cluster could leave on the machine."""

import os
import time
from pathlib import Path

import pytest

from darkroom_testing.cluster.cgroups import hierarchies
from darkroom_testing.cluster.errors import ClusterUnavailableError
from darkroom_testing.cluster.fixtures import command, unavailable
from darkroom_testing.cluster.lifecycle import check
from darkroom_testing.cluster.namespaces import PRIVATE_FOLDERS, TUNABLES
from darkroom_testing.cluster.state import MARK, State

KEPT_FOLDERS = tuple(folder for folder in PRIVATE_FOLDERS if folder.startswith("/var/lib/"))
KEPT_FOLDERS += ("/etc/cni", "/opt/cni", "/opt/containerd", "/var/lib/containerd")
"""Folders of node daemons: what those of this machine have there is not touched."""


def _marked(state):
    mark = f"{MARK}={state.folder}".encode()
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes().split(b"\0"):
                found[path.name] = (path / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def _listed(folder):
    return sorted(path.name for path in Path(folder).iterdir()) if Path(folder).exists() else []


def _tree(folder):
    """All that is in a folder, and the folder itself if it is there."""
    return (
        sorted(map(str, (Path(folder), *Path(folder).rglob("*")))) if Path(folder).exists() else []
    )


class Machine:
    """The machine, as far as the cluster in this folder may change it."""

    def __init__(self, state):
        self.state = state

    def look(self):
        groups = [root / f"darkroom-{self.state.name}" for root in hierarchies()]
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        settings = [Path("/proc/sys") / name for name in (*TUNABLES, "net/ipv4/ip_forward")]
        return {
            "folder": self.state.exists(),
            "processes": _marked(self.state),
            "groups": [str(path) for path in groups if path.exists()],
            "mounts": [line for line in mounts if str(self.state.folder) in line],
            "namespaces": _listed("/run/netns"),
            "links": _listed("/sys/class/net"),
            "settings": {str(path): path.read_text() for path in settings if path.exists()},
            "kept": {folder: _tree(folder) for folder in KEPT_FOLDERS},
            "logs": [name for name in _listed("/var/log") if name in ("pods", "containers")],
        }

    def wait_until(self, wanted, seconds=60):
        """Waits until the machine looks like this, and shows what is different when it does not."""
        end = time.monotonic() + seconds
        while self.look() != wanted and time.monotonic() < end:
            time.sleep(0.2)
        assert self.look() == wanted


@pytest.fixture
def tier_command(request):
    """Runs `python -m darkroom_testing.cluster`, for a tier that this machine can run: `(tier, *arguments)`."""

    def run(tier, *arguments):
        if request.config.getoption("--cluster") != "local":
            pytest.skip("the harness's own tests need --cluster=local")
        try:
            check(tier)
        except ClusterUnavailableError as error:
            unavailable(str(error))
        return command(*arguments)

    return run


@pytest.fixture
def own_state():
    """The folder of a cluster of this test's own, which is gone afterwards."""
    state = State(f"test-{os.getpid()}")
    yield state
    command("down", "--name", state.name)


@pytest.fixture
def machine(own_state):
    """Sees that the machine is as it was: `machine.look()`, `machine.wait_until(before)`."""
    return Machine(own_state)
