"""Up and down: a cluster that answers, and a machine that is as it was, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.fixtures import command
from darkroom_testing.cluster.processes import python_path, start
from darkroom_testing.cluster.state import State

UP_SECONDS = 240


def spawn(*arguments):
    """`python -m darkroom_testing.cluster` in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "darkroom_testing.cluster", *arguments],
        env={**os.environ, **python_path()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until(condition, seconds=UP_SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def kubectl(state, *arguments):
    command = [str(state.folder / "bin" / "kubectl"), f"--kubeconfig={state.kubeconfig}"]
    command += [f"--cache-dir={state.kubectl_cache}"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout


exhaustive = pytest.mark.exhaustive


@pytest.mark.parametrize(
    "tier",
    ["api", pytest.param("scale", marks=exhaustive), pytest.param("node", marks=exhaustive)],
)
def test_a_cluster_comes_up_answers_and_leaves_nothing_behind(
    tier, tier_command, own_state, machine
):
    before = machine.look()
    up = tier_command(tier, "up", "--tier", tier, "--name", own_state.name)
    assert up.returncode == 0, up.stderr
    assert f"KUBECONFIG={own_state.kubeconfig}" in up.stdout
    version = json.loads(kubectl(own_state, "version", "--output=json"))
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]

    status = tier_command(tier, "status").stdout
    assert f"{own_state.name}: {tier} tier, healthy" in status

    down = tier_command(tier, "down", "--name", own_state.name)
    assert down.returncode == 0, down.stderr
    machine.wait_until(before, seconds=5)


@exhaustive
@pytest.mark.parametrize("tier", ["api", "node"])
def test_the_end_of_its_owner_is_the_end_of_a_cluster(tier, tier_command, own_state, machine):
    before = machine.look()
    owner = subprocess.Popen(["sleep", "3600"])
    up = tier_command(
        tier, "up", "--tier", tier, "--name", own_state.name, "--owner", str(owner.pid)
    )
    assert up.returncode == 0, up.stderr
    owner.kill()
    owner.wait()
    machine.wait_until(before)


@exhaustive
@pytest.mark.parametrize(
    ("tier", "last"), [("api", "kube-apiserver"), ("node", "etcd"), ("node", "containerd")]
)
def test_a_start_that_is_killed_leaves_nothing_behind(tier, last, tier_command, own_state, machine):
    assert tier_command(tier, "build", "--tier", tier).returncode == 0
    before = machine.look()
    starting = spawn("up", "--tier", tier, "--name", own_state.name)
    wait_until(own_state.log(last).exists)
    starting.send_signal(signal.SIGKILL)
    starting.wait()
    machine.wait_until(before)


@exhaustive
def test_after_everything_that_watches_was_killed_the_next_start_cleans_up(
    tier_command, own_state, machine
):
    assert tier_command("api", "build").returncode == 0
    before = machine.look()
    starting = spawn("up", "--name", own_state.name)
    wait_until(own_state.log("kube-apiserver").exists)
    os.kill(own_state.command("watchdog").pid, signal.SIGKILL)
    starting.send_signal(signal.SIGKILL)
    starting.wait()
    left = own_state.processes()
    assert left

    up = tier_command("api", "up", "--name", own_state.name)
    assert up.returncode == 0, up.stderr
    assert not left & own_state.processes()
    assert "default" in kubectl(own_state, "get", "namespaces")
    assert tier_command("api", "down", "--name", own_state.name).returncode == 0
    machine.wait_until(before, seconds=5)


@exhaustive
def test_a_second_up_finds_the_cluster_and_mends_a_broken_one(tier_command, own_state):
    assert tier_command("api", "up", "--name", own_state.name).returncode == 0
    wait_until(lambda: not own_state.command("watchdog").alive())
    processes = own_state.processes()
    again = tier_command("api", "up", "--name", own_state.name)
    assert again.returncode == 0, again.stderr
    assert own_state.processes() == processes

    os.kill(own_state.command("etcd").pid, signal.SIGKILL)
    wait_until(lambda: not own_state.command("etcd").alive())
    mended = tier_command("api", "up", "--name", own_state.name)
    assert mended.returncode == 0, mended.stderr
    assert "default" in kubectl(own_state, "get", "namespaces")
    assert not processes & own_state.processes()


@pytest.fixture
def other_state(own_state):
    """The folder of a second cluster of this test's own, which is gone afterwards."""
    state = State(f"{own_state.name}-other")
    yield state
    command("down", "--name", state.name)


@exhaustive
def test_a_cluster_that_somebody_builds_by_hand_is_left_alone(tier_command, own_state, other_state):
    """This test is somebody: it makes the folder, and starts what it likes."""
    other_state.create("node", None)
    process = start(other_state, "etcd", ["sleep", "3600"])

    up = tier_command("api", "up", "--name", own_state.name)
    assert up.returncode == 0, up.stderr
    assert process.alive()

    refused = tier_command("api", "up", "--name", other_state.name)
    assert refused.returncode == 1
    assert f"belongs to process {os.getpid()}" in refused.stderr
    assert f"down --name {other_state.name}" in refused.stderr
    assert process.alive()
    assert f"belongs to process {os.getpid()}" in tier_command("api", "status").stdout


BY_HAND = """
import sys
from darkroom_testing.cluster.processes import start
from darkroom_testing.cluster.state import State
state = State(sys.argv[1])
state.create("node", None)
start(state, "etcd", ["sleep", "3600"])
"""


@exhaustive
def test_so_is_one_that_is_built_in_steps_of_which_none_runs_now(
    tier_command, own_state, other_state
):
    step = [sys.executable, "-c", BY_HAND, other_state.name]
    subprocess.run(step, env={**os.environ, **python_path()}, check=True)
    up = tier_command("api", "up", "--name", own_state.name)
    assert up.returncode == 0, up.stderr
    refused = tier_command("api", "up", "--name", other_state.name)
    assert refused.returncode == 1
    assert "was built by hand, and its processes run" in refused.stderr
    assert other_state.command("etcd").alive()


@exhaustive
def test_a_cluster_is_made_anew_for_its_owner_alone(tier_command, own_state):
    owner = subprocess.Popen(["sleep", "3600"])
    own = ["up", "--name", own_state.name, "--owner", str(owner.pid)]
    assert tier_command("api", *own).returncode == 0
    os.kill(own_state.command("etcd").pid, signal.SIGKILL)
    wait_until(lambda: not own_state.command("etcd").alive())
    left = own_state.processes()

    refused = tier_command("api", "up", "--name", own_state.name)
    assert refused.returncode == 1
    assert f"belongs to process {owner.pid} (sleep 3600)" in refused.stderr
    assert own_state.processes() == left

    mended = tier_command("api", *own)
    assert mended.returncode == 0, mended.stderr
    assert not left & own_state.processes()
    owner.kill()
    owner.wait()


@exhaustive
def test_a_cluster_of_another_tier_is_not_replaced(tier_command, own_state):
    assert tier_command("api", "up", "--name", own_state.name).returncode == 0
    wait_until(lambda: not own_state.command("watchdog").alive())
    processes = own_state.processes()
    refused = tier_command("node", "up", "--tier", "node", "--name", own_state.name)
    assert refused.returncode == 1
    assert "runs, and is of the api tier" in refused.stderr
    assert own_state.processes() == processes


def test_down_needs_no_cluster_and_status_says_when_there_is_none(tier_command, own_state):
    assert tier_command("api", "down", "--name", own_state.name).returncode == 0
    assert f"\n{own_state.name}:" not in "\n" + tier_command("api", "status").stdout


@pytest.mark.parametrize("name", ["", "a_b", "A", "../x", "-a"])
def test_a_name_that_cannot_be_a_folder_and_a_group_is_refused(name):
    with pytest.raises(ClusterError, match="no name for a cluster"):
        State(name)
