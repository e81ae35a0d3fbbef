"""Whatever ends the owner of a local Ray, Ray's processes and files end with it. Plain processes stand for Ray's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from darkroom_local import folders
from darkroom_local.folders import KEPT_SECONDS, STARTING_SECONDS, locked_folder, sweep
from darkroom_local.keeper import LOGS, SESSION_ENV, end_processes, remove

GONE_SECONDS = 30
"""Far more than it takes."""

OWNER = f"""
import os, subprocess, sys, time
from darkroom_local.folders import locked_folder
from darkroom_local.ray_session import _start_keeper
from darkroom_local.stop_signals import signals_held

with locked_folder() as folder:
    with signals_held():
        keeper = _start_keeper(folder)
    started = subprocess.Popen(
        ["sleep", "600"],
        env=os.environ | {{"{SESSION_ENV}": str(folder.path)}},
        start_new_session=True,
    )
    print(folder.path, started.pid, keeper.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Where folders of sessions are made."""
    monkeypatch.setattr(folders, "_root", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def owner():
    """A process that has a session, with what it has started: (owner, folder, process, keeper)."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True
    ) as process:
        path, started, keeper = process.stdout.readline().split()
        yield process, Path(path), psutil.Process(int(started)), psutil.Process(int(keeper))
        process.kill()


@pytest.fixture
def member(tmp_path):
    """Starts a process of the session in a folder."""
    running = []

    def start(folder, *command, **options):
        environment = os.environ | {SESSION_ENV: str(folder)}
        running.append(subprocess.Popen(command or ("sleep", "600"), env=environment, **options))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def ended(*processes):
    _, left = psutil.wait_procs(processes, timeout=GONE_SECONDS)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in left)


def gone(path):
    deadline_s = time.monotonic() + GONE_SECONDS
    while path.exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not path.exists()


def test_what_a_killed_owner_leaves_is_ended_and_removed(owner):
    process, folder, started, keeper = owner
    process.kill()
    process.wait()
    assert ended(started, keeper)
    assert gone(folder)


def test_a_signal_to_the_owner_s_group_is_not_for_its_keeper(owner):
    _, _, _, keeper = owner
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        keeper.send_signal(number)
    time.sleep(0.2)
    assert keeper.is_running()
    assert keeper.status() != psutil.STATUS_ZOMBIE


def test_a_process_that_hides_its_environment_is_known_by_its_log(tmp_path):
    """As Ray's agents do, which write a title over it."""
    log = tmp_path / "agent.log"
    with log.open("w") as file, subprocess.Popen(["sleep", "600"], stdout=file) as agent:
        end_processes(tmp_path, psutil.Process())
        agent.wait(GONE_SECONDS)


def test_who_reads_a_log_and_who_owns_the_session_live_on(tmp_path):
    log = tmp_path / "agent.log"
    log.touch()
    with log.open("a"), subprocess.Popen(["tail", "-f", log]) as reader:
        end_processes(tmp_path, psutil.Process())
        assert reader.poll() is None
        reader.kill()


def test_the_folder_and_its_token_are_closed_to_others(root):
    with locked_folder() as folder:
        assert folder.path.stat().st_mode & 0o777 == 0o700
        assert folder.token.stat().st_mode & 0o777 == 0o600
        assert len(folder.token.read_text()) == 64


def test_a_folder_too_deep_for_ray_s_sockets_is_not_taken(monkeypatch):
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: "/var/folders/zz/zyxvpxvq6csfxvn")
    assert folders._root() == Path("/tmp")


def test_a_session_whose_owner_and_keeper_were_killed_is_ended_by_the_next_start(root, member):
    left = root / f"{folders.PREFIX}left"
    left.mkdir()
    (left / "lock").touch()
    process = member(left)
    long_ago = time.time() - 2 * STARTING_SECONDS
    os.utime(left, (long_ago, long_ago))
    with locked_folder() as folder:
        assert not left.exists()
        assert folder.path.exists()
        process.wait(GONE_SECONDS)


def test_a_session_that_is_somebody_s_is_left_alone(root, member):
    with locked_folder() as first:
        process = member(first.path)
        long_ago = time.time() - 2 * STARTING_SECONDS
        os.utime(first.path, (long_ago, long_ago))
        sweep(root)
        assert first.token.exists()
        assert process.poll() is None


def test_the_logs_of_a_failure_are_kept_for_a_day(root):
    with locked_folder() as folder:
        logs = folder.ray / "session_2026" / LOGS
        logs.mkdir(parents=True)
        (logs / "raylet.out").write_text("why")
        remove(folder.path, keep_logs=True)
    assert [path.name for path in folder.path.iterdir()] == [LOGS]
    assert (folder.kept_logs / "raylet.out").read_text() == "why"
    sweep(root)
    assert folder.kept_logs.exists()
    yesterday = time.time() - KEPT_SECONDS - 1
    os.utime(folder.path, (yesterday, yesterday))
    sweep(root)
    assert not folder.path.exists()
