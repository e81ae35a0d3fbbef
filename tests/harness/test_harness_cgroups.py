"""Memory that runs out in one control group, and in no other."""

import os
import subprocess
import sys

import pytest

from darkroom_testing.cluster import cgroups
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.fixtures import unavailable
from darkroom_testing.cluster.processes import python_path

IN_A_GROUP = """
import os, sys
from darkroom_testing.cluster import cgroups
cgroups.enter(sys.argv[1])
os.execvp("sh", ["sh", "-c", sys.argv[2]])
"""
LARGE_CHILD = f"""
{sys.executable} -c 'import time; held = bytearray(60 << 20); print("holds", flush=True); time.sleep(3600)'
echo ended with $?
{sys.executable} -c 'print("room for", len(bytearray(60 << 20)))'
"""


@pytest.fixture
def shell():
    """Starts a shell in a control group of its own: `shell(script)`."""
    if os.geteuid() != 0:
        unavailable("a control group needs root")
    name = f"memory-{os.getpid()}"

    def run(script):
        command = [sys.executable, "-c", IN_A_GROUP, name, script]
        environment = {**os.environ, **python_path()}
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)

    yield run
    cgroups.remove(name)


def test_the_largest_process_is_killed_and_there_is_room_again(shell):
    with shell(LARGE_CHILD) as process:
        assert process.stdout.readline() == "holds\n"
        cgroups.exhaust_memory(process.pid)
        assert process.stdout.readline() == "ended with 137\n"
        assert process.stdout.readline() == f"room for {60 << 20}\n"


def test_the_group_of_the_one_that_asks_is_left_alone():
    with pytest.raises(ClusterError, match="shares"):
        cgroups.exhaust_memory(os.getpid())
