"""A network and a mount namespace for one cluster, which vanish with its last process.

Nothing in it can be reached from outside, but the apiserver through the forwarder; and nothing
outside from it. Mounts are private, so the machine never sees them; and the kernel's settings that
a kubelet insists on are files laid over the real ones, which therefore stay as they are.
"""

import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.pki import NODE_ADDRESS
from darkroom_testing.cluster.state import MARK, State

BRIDGE = "cni0"
PODS = "10.244.0.0/24"
"""The addresses of real pods, on the bridge."""
FAKE_PODS = "10.128.0.0/16"
"""The addresses of simulated pods: each is this machine, as the network namespace sees it."""
PRIVATE_FOLDERS = ("/run", "/var/log", "/var/lib/cni", "/var/lib/kubelet")
"""Where containerd, CNI and the kubelet write whatever they are told: the cluster has its own."""
MOUNT_POINT = 0o1700
"""The permissions of a folder that had to be made, by which whoever removes it knows it."""
TUNABLES = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""The settings a kubelet would change for the whole machine."""


def run(*command: str) -> str:
    """What a command of the system prints; when it fails, what it says is the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def run_in_new(state: State, environment: Mapping[str, str], *command: str) -> None:
    """Runs a command in namespaces of its own, and says what it says when it fails."""
    unshare = ["unshare", "--net", "--mount", "--propagation", "private", "--"]
    done = subprocess.run(
        [*unshare, *command],
        env={**os.environ, **environment, MARK: str(state.folder)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(done.stderr.strip() or f"ended with {done.returncode}")


def entering(pid: int) -> list[str]:
    """The start of a command that is to run in the namespaces of a process."""
    return ["nsenter", f"--target={pid}", "--net", "--mount", "--"]


def _mount_private_folders(state: State) -> None:
    for folder in map(Path, PRIVATE_FOLDERS):
        if state.folder.is_relative_to(folder.resolve()):
            raise ClusterError(f"the cluster's folder must not be in {folder}")
        with _locked(folder.parent):
            if not folder.exists():
                folder.mkdir(MOUNT_POINT)
            run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))


def _cover_tunables(state: State) -> None:
    covers = state.folder / "tunables"
    for name, value in TUNABLES.items():
        real, cover = Path("/proc/sys") / name, covers / name
        if real.exists():
            cover.parent.mkdir(parents=True, exist_ok=True)
            cover.write_text(f"{value}\n")
            run("mount", "--bind", str(cover), str(real))


def prepare_mounts(state: State) -> None:
    """Makes the mounts of this process's namespace the cluster's own."""
    _mount_private_folders(state)
    _cover_tunables(state)


def prepare_network() -> None:
    """Gives this process's network namespace the node's address, and the simulated pods'."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", f"{NODE_ADDRESS}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    run("ip", "route", "replace", "default", "dev", BRIDGE, "src", NODE_ADDRESS)
    run("ip", "route", "add", "local", FAKE_PODS, "dev", "lo")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # of this namespace


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other clusters from what is in a folder; holds across namespaces, and leaves nothing."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_mounted_anywhere(folder: Path) -> bool:
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):  # it has ended
            if f" {folder} " in mounts.read_text():
                return True
    return False


def remove_mount_points() -> None:
    """Removes the folders that had to be made, unless another cluster uses them.

    To remove a mount point takes the mount away in every namespace.
    """
    for folder in map(Path, PRIVATE_FOLDERS):
        with _locked(folder.parent):
            made = folder.is_dir() and stat.S_IMODE(folder.stat().st_mode) == MOUNT_POINT
            if made and not _is_mounted_anywhere(folder):
                with suppress(OSError):  # somebody else has put something in it
                    folder.rmdir()
