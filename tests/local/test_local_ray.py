"""A real Ray on this machine: nobody else can use it, signals don't reach it, and no kill leaves it behind."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from darkroom_local.keeper import processes_of
from darkroom_local.ray_session import HEAD_PROCESSES, LOOPBACK

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
LOOPBACKS = {LOOPBACK, "::1", f"::ffff:{LOOPBACK}"}
GONE_SECONDS = 30
HOST, GUEST = "198.51.100.1", "198.51.100.2"
JOB = '{"entrypoint": "touch /tmp/was-here"}'

SOON = {
    "RAY_NUM_REDIS_GET_RETRIES": "2",
    "RAY_gcs_rpc_server_connect_timeout_s": "2",
    "RAY_nums_py_gcs_reconnect_retry": "0",
    "RAY_py_gcs_connect_timeout_s": "4",
}
"""Ray tells a stranger after seconds that it can't attach, not after minutes."""

REACH = """
import socket, sys
for port in sys.argv[2:]:
    with socket.socket() as client:
        client.settimeout(5)
        print(port, client.connect_ex((sys.argv[1], int(port))) == 0)
"""


class Owner:
    """A process with a Ray of its own, in a session of its own."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "ray_owner.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        folder, self.address = self.process.stdout.readline().split()
        self.identity = psutil.Process(self.process.pid)
        self.folder = Path(folder)

    @property
    def rays(self):
        return processes_of(self.folder, self.identity)

    def works(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == "42\n"

    def listening(self):
        mine = {self.process.pid, *(process.pid for process in self.rays)}
        found = psutil.net_connections("inet")
        return [one.laddr for one in found if one.pid in mine and one.status == "LISTEN"]

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def owner():
    running = Owner()
    yield running
    running.end()


@pytest.fixture
def other_machine():
    """A network namespace with a cable to this machine; runs commands there."""
    name = f"drk-{uuid.uuid4().hex[:8]}"
    cable = f"{name[4:]}h"
    commands = [
        f"ip netns add {name}",
        f"ip link add {cable} type veth peer name {cable}g netns {name}",
        f"ip addr add {HOST}/30 dev {cable}",
        f"ip link set {cable} up",
        f"ip -n {name} addr add {GUEST}/30 dev {cable}g",
        f"ip -n {name} link set {cable}g up",
        f"ip -n {name} link set lo up",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"a network namespace needs root and ip: {error}")
    try:
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.fixture
def a_stranger_s(tmp_path):
    """The environment of someone without our token."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return mine | {"HOME": str(tmp_path), **SOON}


def attach(address, environment, where=()):
    command = [*where, sys.executable, HERE / "ray_stranger.py", address]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    ).stdout


def gone(owner, processes):
    deadline_s = time.monotonic() + GONE_SECONDS
    while (owner.rays or owner.folder.exists()) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    left = [process for process in processes if process.is_running()]
    return not owner.folder.exists() and all(p.status() == psutil.STATUS_ZOMBIE for p in left)


def test_all_of_it_listens_on_loopback_only(owner):
    assert owner.works()
    addresses = owner.listening()
    assert len(addresses) > len(HEAD_PROCESSES)
    assert [one for one in addresses if one.ip not in LOOPBACKS] == []


def test_another_machine_reaches_nothing_of_it_while_its_owner_works(
    owner, other_machine, a_stranger_s
):
    with socket.create_server(("", 0)) as open_to_all:
        reachable = open_to_all.getsockname()[1]
        ports = sorted({address.port for address in owner.listening()})
        command = [*other_machine, sys.executable, "-c", REACH, HOST, reachable, *ports]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
        found = dict(line.split() for line in done.stdout.splitlines())
    assert found.pop(str(reachable)) == "True", "the cable works"
    assert found == {str(port): "False" for port in ports}
    _, port = owner.address.rsplit(":", 1)
    assert attach(f"{HOST}:{port}", a_stranger_s, other_machine).startswith("refused:")
    assert owner.works()


def test_another_user_of_this_machine_can_t_attach_without_the_token(owner, a_stranger_s):
    token = (owner.folder / "token").read_text()
    # As the owner does it, Ray stays on loopback and does not look for the address of the machine.
    with_token = a_stranger_s | {
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    assert attach(owner.address, with_token | {"RAY_AUTH_TOKEN": token}) == "attached: my code\n"
    assert attach(owner.address, with_token | {"RAY_AUTH_TOKEN": "0" * 64}).startswith("refused:")
    assert owner.works()


def test_another_user_of_this_machine_can_t_submit_a_job(owner):
    answers = [_submit(address.port) for address in owner.listening()]
    assert 401 in answers, "the agent that takes jobs is there"
    assert not [status for status in answers if status is not None and status < 400]


def _submit(port):
    """The status of an answer to a job; None from what doesn't speak HTTP."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request(
            "POST", "/api/job_agent/jobs/", JOB, {"content-type": "application/json"}
        )
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None


def test_the_token_stands_in_no_process_list(owner):
    token = (owner.folder / "token").read_text()
    assert re.fullmatch("[0-9a-f]{64}", token)
    for process in [psutil.Process(owner.process.pid), *owner.rays]:
        assert token not in " ".join(process.cmdline())
        assert token not in " ".join(process.environ().values())


def test_workers_have_the_niceness_of_their_owner(owner):
    nice = {process.nice() for process in owner.rays}
    assert nice == {psutil.Process(owner.process.pid).nice()}


def test_signals_that_ask_to_stop_are_the_owner_s_alone(owner):
    before = owner.rays
    for process in before:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
    time.sleep(2)
    assert owner.works()
    assert set(before) <= set(owner.rays)


def test_its_end_leaves_no_process_and_no_file():
    ending = Owner()
    try:
        processes = ending.rays
        out, _ = ending.process.communicate(timeout=60)
        assert out == "ended\n"
        assert gone(ending, processes)
    finally:
        ending.end()


@pytest.mark.parametrize(
    "killed",
    [
        "owner",
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in (*sorted(HEAD_PROCESSES), "ray::DashboardAgent")
        ),
    ],
)
def test_nothing_outlives_a_killed_process_and_the_next_start_works(killed):
    first = Owner()
    try:
        processes = first.rays
        if killed == "owner":
            first.process.kill()
        else:
            (victim,) = [p for p in processes if p.name() == killed]
            victim.kill()
            first.process.stdin.close()
        first.process.wait(120)
        assert gone(first, processes)
        second = Owner()
        try:
            assert second.works()
        finally:
            second.end()
    finally:
        first.end()
