"""Brings clusters up and takes them down; the tiers say what a cluster is made of."""

import hashlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from darkroom_testing.cluster import cgroups
from darkroom_testing.cluster.api_tier import (
    OWN_NETWORK,
    start_api_tier,
    start_control_plane,
    start_scheduler,
    write_kubeconfig,
)
from darkroom_testing.cluster.build import COMMANDS, Tools, ensure, find, go_version
from darkroom_testing.cluster.errors import ClusterError, ClusterUnavailableError
from darkroom_testing.cluster.kuberay import start_kuberay
from darkroom_testing.cluster.namespaces import (
    prepare_mounts,
    prepare_network,
    remove_mount_points,
    run_in_new,
)
from darkroom_testing.cluster.node_tier import check_node, start_node
from darkroom_testing.cluster.processes import (
    answers,
    client_tls,
    kill_all,
    python_path,
    start,
    wait_ready,
)
from darkroom_testing.cluster.scale_tier import start_simulation
from darkroom_testing.cluster.state import Owner, State, states

TIERS = tuple(COMMANDS)
NAMESPACE_COMMANDS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}
"""What a network of its own needs, and the Debian package of each."""


def check(tier: str) -> None:
    """Raises `ClusterUnavailableError` when this machine lacks what the tier needs."""
    if tier not in TIERS:
        raise ClusterError(f"there is no tier {tier!r}: take one of {', '.join(TIERS)}")
    if not Path("/proc/self/stat").exists():
        raise ClusterUnavailableError("the test cluster runs on Linux only")
    go_version()
    if tier == "api":
        return
    if os.geteuid() != 0:
        raise ClusterUnavailableError(
            f"the {tier} tier needs root: it runs in a network namespace of its own"
        )
    missing = [name for name in NAMESPACE_COMMANDS if not shutil.which(name)]
    if missing:
        packages = " ".join(sorted({NAMESPACE_COMMANDS[name] for name in missing}))
        raise ClusterUnavailableError(f"the {tier} tier needs: apt-get install {packages}")
    if tier == "node":
        check_node()


@contextmanager
def _lock(state: State, *, wait: bool = True) -> Iterator[bool]:
    """Keeps others from this cluster: a name in the kernel, which leaves no file behind."""
    name = b"\0" + hashlib.sha256(str(state.folder).encode()).digest()
    with socket.socket(socket.AF_UNIX) as lock:
        while True:
            try:
                lock.bind(name)
            except OSError:
                if not wait:
                    yield False
                    return
                time.sleep(0.1)
            else:
                yield True
                return


def is_orphan(state: State) -> bool:
    """Whether a cluster lost its owner, or the `up` that was to make it ready.

    One that somebody builds by hand, in whatever steps, is none of that.
    """
    if not state.exists() or state.holder():
        return False
    return state.owner is not None or (not state.ready and _is_begun_by_up(state))


def _is_begun_by_up(state: State) -> bool:
    """Whether `up` began to start a cluster: the watchdog comes first."""
    return any(command.name == "watchdog" for command in state.commands())


def is_healthy(state: State) -> bool:
    """Whether all processes of a cluster run; the watchdog goes when it has nothing to watch."""
    commands = [command for command in state.commands() if command.name != "watchdog"]
    return state.ready and all(command.alive() for command in commands)


def up(name: str, tier: str, owner: int | None = None) -> State:
    """The cluster, started now unless it runs; it ends with its owner, if it has one.

    A broken one is made anew. One that is somebody else's is left alone, and so is another tier.
    """
    check(tier)
    state, tools = State(name), ensure(COMMANDS[tier])
    _take_down_orphans()
    with _lock(state):
        if state.tier == tier and is_healthy(state):
            return state
        future = Owner.of(owner) if owner else None
        _refuse_others(state, future)
        _take_down(state)
        state.create(tier, future)
        try:
            _bring_up(state, tools)
        except BaseException:
            _take_down(state)
            raise
    return state


def _refuse_others(state: State, owner: Owner | None) -> None:
    """Raises when a cluster of this name must not be replaced: it is somebody else's, or it runs."""
    holder = state.holder()
    if holder and holder != owner:
        reason = f"belongs to {holder}"
    elif is_healthy(state):
        reason = f"runs, and is of the {state.tier} tier"
    elif not _is_begun_by_up(state) and state.processes():
        reason = "was built by hand, and its processes run"
    else:
        return
    raise ClusterError(
        f"the cluster {state.name!r} {reason}:"
        f" take another --name, or `python -m darkroom_testing.cluster down --name {state.name}` first"
    )


def _take_down_orphans() -> None:
    """Takes down what killed runs left; a cluster that somebody starts just now is locked."""
    for state in states():
        if is_orphan(state):
            with _lock(state, wait=False) as locked:
                if locked and is_orphan(state):
                    _take_down(state)


def _bring_up(state: State, tools: Tools) -> None:
    began = time.monotonic()
    python = [sys.executable, "-m"]
    watchdog = [*python, "darkroom_testing.cluster.watchdog", state.name, str(os.getpid())]
    start(state, "watchdog", watchdog, python_path(), outside=True)
    if state.tier == "api":
        start_api_tier(state, tools)
    else:
        run_in_new(state, python_path(), *python, "darkroom_testing.cluster", "inside", state.name)
        _start_forwarder(state)
    _wait_for_default_account(state)
    for command in ("kubectl", "helm"):
        if command in tools.paths:
            (state.folder / "bin" / command).symlink_to(tools[command])
    state.update(ready=True, seconds=round(time.monotonic() - began, 1))


def start_inside(name: str) -> None:
    """Starts what belongs into the namespaces; this process was started in them."""
    state = State(name)
    tools, tier = find(COMMANDS[state.tier or ""]), state.tier
    state.update(cgroup=cgroups.enter(name))
    prepare_mounts(state)
    prepare_network()
    start_control_plane(state, tools, OWN_NETWORK, own_network=True)
    start_scheduler(state, tools, OWN_NETWORK)
    start_kuberay(state, tools, OWN_NETWORK)
    if tier == "scale":
        start_simulation(state, tools, OWN_NETWORK)
    else:
        start_node(state, tools, OWN_NETWORK)


def _start_forwarder(state: State) -> None:
    """Makes the apiserver reachable from the network of the machine, on a port of loopback."""
    network = f"/proc/{state.command('etcd').pid}/ns/net"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor, port = listener.fileno(), listener.getsockname()[1]
        arguments = [str(descriptor), network, str(OWN_NETWORK.apiserver)]
        command = [sys.executable, "-m", "darkroom_testing.cluster.forwarder", *arguments]
        start(state, "forwarder", command, python_path(), outside=True, pass_fds=[descriptor])
    write_kubeconfig(state, port)


def _wait_for_default_account(state: State) -> None:
    """Waits for what the controller-manager makes in a namespace: without it there are no pods."""
    path, port = "/api/v1/namespaces/default/serviceaccounts/default", state.meta()["port"]
    tls = client_tls(state)
    wait_ready(state, "kube-controller-manager", lambda: answers(port, path, tls))


def down(name: str) -> None:
    """Takes the cluster down, whatever state it is in; nothing of it is left."""
    state = State(name)
    with _lock(state):
        _take_down(state)


def _take_down(state: State) -> None:
    if state.exists():
        kill_all(state)
        if state.tier != "api":
            cgroups.remove(state.name)
        remove_mount_points()
        state.remove()
