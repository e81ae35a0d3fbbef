"""What it means that a process of a cluster has ended."""

import signal
import socket
import sys

import pytest

from darkroom_testing.cluster.processes import start, stop, wait_ready
from darkroom_testing.cluster.state import State

SERVER = """
import socket, sys, threading
memory = bytearray(256 << 20)
memory[::4096] = b"1" * (len(memory) // 4096)  # much to give back, as an apiserver has
listener = socket.create_server(("127.0.0.1", 0))
told = threading.Event()
def spin():
    told.wait()  # the first thread would hardly have a turn among those who spin
    while True: pass
for _ in range(60):
    threading.Thread(target=spin, daemon=True).start()
print(listener.getsockname()[1], flush=True)
told.set()
threading.Event().wait()
"""


@pytest.fixture(name="state")
def state_fixture(monkeypatch, tmp_path):
    monkeypatch.setattr("darkroom_testing.cluster.state.state_root", lambda: tmp_path)
    state = State("alone")
    state.create("api", None)
    return state


def test_the_port_of_a_killed_process_is_free_at_once(state):
    """Its first thread is a zombie before the others have let its socket go."""
    start(state, "server", [sys.executable, "-c", SERVER])
    wait_ready(state, "server", lambda: state.log("server").read_text().endswith("\n"))
    port = int(state.log("server").read_text())
    stop(state, "server", signal.SIGKILL)
    socket.create_server(("127.0.0.1", port)).close()
