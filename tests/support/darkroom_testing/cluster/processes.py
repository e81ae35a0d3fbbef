"""Starts the processes of a cluster, waits until they are ready, and stops them."""

import http.client
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.state import MARK, Command, State, start_time

READY_SECONDS = 180
"""How long a process may take until it is ready: two seconds alone, a minute on a busy machine."""
STOP_SECONDS = 10
"""How long a process may take to end before it is killed."""


def python_path() -> dict[str, str]:
    """The environment in which `python -m darkroom_testing.cluster` is found."""
    return {"PYTHONPATH": str(Path(__file__).parents[2])}


def start(
    state: State,
    name: str,
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    outside: bool = False,
    pass_fds: Sequence[int] = (),
) -> Command:
    """Starts a process that outlives this one, with its output in the cluster's folder."""
    mark = {**(environment or {}), MARK: str(state.folder)}
    with state.log(name).open("ab") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=state.folder,
            env={**os.environ, **mark},
            start_new_session=True,
            pass_fds=pass_fds,
        )
    process.returncode = 0  # it is not waited for: Popen need not warn when it is forgotten
    pid = process.pid
    command = Command(name, tuple(argv), mark, pid, start_time(pid), outside)
    state.record(command)
    return command


def tail(state: State, name: str, lines: int = 25) -> str:
    """The end of a process's log."""
    with suppress(OSError):
        text = state.log(name).read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])
    return ""


def wait_ready(
    state: State, name: str, ready: Callable[[], bool], seconds: float = READY_SECONDS
) -> None:
    """Waits until `ready` says so; a process that ends before is an error."""
    command, end = state.command(name), time.monotonic() + seconds
    while not ready():
        _reap(command.pid)
        if not command.alive():
            raise ClusterError(f"{name} ended before it was ready:\n{tail(state, name)}")
        if time.monotonic() > end:
            raise ClusterError(f"{name} not ready in {seconds:.0f} s:\n{tail(state, name)}")
        time.sleep(0.1)


def answers(port: int, path: str, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a server on the loopback address answers 200."""
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=tls)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def client_tls(state: State, user: str = "admin") -> ssl.SSLContext:
    """The TLS of a client that is this user."""
    authority = state.authority
    context = ssl.create_default_context(cafile=str(authority.certificate("ca")))
    context.load_cert_chain(authority.certificate(user), authority.key(user))
    return context


def _reap(pid: int) -> None:
    """Lets a child that ended go; a process of another parent is not ours to wait for."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _wait_ended(pids: Iterable[int], seconds: float) -> set[int]:
    """Waits until the processes ended, and returns those that did not."""
    left, end = {pid: start_time(pid) for pid in pids}, time.monotonic() + seconds
    while left and time.monotonic() < end:
        for pid in left:
            _reap(pid)
        left = {pid: began for pid, began in left.items() if began and start_time(pid) == began}
        if left:
            time.sleep(0.02)
    return set(left)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def stop(state: State, name: str, number: signal.Signals = signal.SIGTERM) -> None:
    """Stops one process; its record stays, so that it can be started again."""
    command = state.command(name)
    if command.alive():
        _send([command.pid], number)
        _send(_wait_ended([command.pid], STOP_SECONDS), signal.SIGKILL)
        if _wait_ended([command.pid], STOP_SECONDS):
            raise ClusterError(f"{name} (process {command.pid}) cannot be killed")


def kill_all(state: State) -> None:
    """Kills all processes of the cluster, and those that they start meanwhile."""
    clean = 0
    for _ in range(50):
        pids = state.processes()
        _send(pids, signal.SIGKILL)
        _wait_ended(pids, STOP_SECONDS)
        clean = 0 if pids else clean + 1
        if clean == 3:
            return
        time.sleep(0.05)  # a process that is just being started is not known yet
    raise ClusterError(f"processes of {state.name!r} cannot be killed: {state.processes()}")
