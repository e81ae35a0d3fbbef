"""The folders of a cluster's own: laid over those of the machine, and made where there are none."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from darkroom_testing.cluster import namespaces
from darkroom_testing.cluster.fixtures import unavailable
from darkroom_testing.cluster.namespaces import entering, remove_mount_points
from darkroom_testing.cluster.processes import python_path

HOLD = """
import sys, time
from darkroom_testing.cluster import namespaces
from darkroom_testing.cluster.state import State
namespaces.PRIVATE_FOLDERS = sys.argv[2:]
namespaces.prepare_mounts(State(sys.argv[1]))
print("mounted", flush=True)
time.sleep(3600)
"""


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The only folder that clusters have for themselves in these tests; it isn't there yet."""
    if os.geteuid() != 0:
        unavailable("a mount namespace needs root")
    monkeypatch.setenv("DARKROOM_CLUSTER_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "kubelet"
    monkeypatch.setattr(namespaces, "PRIVATE_FOLDERS", (str(folder),))
    return folder


@contextmanager
def mounted(name, folder):
    """The process of a cluster that has its mounts."""
    unshare = ["unshare", "--mount", "--propagation", "private", "--"]
    command = [*unshare, sys.executable, "-c", HOLD, name, str(folder)]
    environment = os.environ | python_path()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout.readline() == b"mounted\n"
            yield process
        finally:
            process.kill()


def inside(process, script):
    """What a shell in the namespaces of a cluster prints."""
    command = [*entering(process.pid), "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_what_is_made_as_a_mount_point_goes_with_the_last_cluster_that_needs_it(folder):
    with mounted("second", folder) as second:
        with mounted("first", folder) as first:
            inside(first, f"touch {folder}/of-the-first")
            inside(second, f"touch {folder}/of-the-second")
            assert list(folder.iterdir()) == []
        first.wait()
        remove_mount_points()
        assert inside(second, f"ls {folder}") == "of-the-second\n"
    second.wait()
    remove_mount_points()
    assert not folder.exists()


def test_the_next_to_go_removes_what_a_killed_cluster_left(folder):
    with mounted("killed", folder) as killed:
        killed.send_signal(signal.SIGKILL)
    assert folder.exists()
    remove_mount_points()
    assert not folder.exists()


def test_what_was_there_is_neither_seen_nor_touched_nor_removed(folder):
    folder.mkdir()
    (folder / "kubelet.sock").write_text("of another kubelet")
    with mounted("one", folder) as one:
        assert inside(one, f"ls {folder}") == ""
        inside(one, f"touch {folder}/kubelet.sock")
        assert (folder / "kubelet.sock").read_text() == "of another kubelet"
    remove_mount_points()
    assert (folder / "kubelet.sock").read_text() == "of another kubelet"


def test_an_empty_folder_of_somebody_else_stays(folder):
    folder.mkdir()
    with mounted("one", folder):
        pass
    remove_mount_points()
    assert folder.exists()
