"""Signals as timeout, systemd, Slurm and a closed terminal send them: to everything that a command has started."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from darkroom_local.ray_session import HEAD_PROCESSES
from darkroom_testing.foreground import foreground
from darkroom_trainer.driver.run import RunOptions, prepare

ALWAYS = (signal.SIGTERM, "raylet")
"""The case that stands in every run."""

pytestmark = pytest.mark.slow


@pytest.fixture
def training(make_job, tmp_path):
    """`darkroom train` on a job that never ends, in a session of its own: (job, process)."""
    job = make_job(tmp_path, training={"maxSteps": 100_000}, checkpoint={"everySteps": 100_000})
    document = json.loads(job.model_dump_json(by_alias=True, exclude_none=True))
    (tmp_path / "job.yaml").write_text(json.dumps(document))  # JSON is YAML
    with subprocess.Popen(
        [sys.executable, "-m", "darkroom", "train", str(tmp_path / "job.yaml"), "--json"],
        env=os.environ | {"DARKROOM_WORK_DIR": str(tmp_path / "work")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=foreground,
    ) as process:
        yield job, process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


exhaustive = pytest.mark.exhaustive


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(pytest.param(one, marks=exhaustive) for one in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_a_signal_to_all_of_a_training_saves_it(training, tmp_path, number):
    job, process = training
    for line in process.stdout:
        event = json.loads(line)
        if event.get("step", 0) >= 2:
            break
    processes = psutil.Process(process.pid).children(recursive=True)
    for one in [psutil.Process(process.pid), *processes]:
        one.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (128 + number, "")
    result = json.loads(out.splitlines()[-1])
    assert (result["event"], result["stop_signal"]) == ("result", number.name)
    prepared = prepare(job, RunOptions(job_folder=tmp_path, work_dir=tmp_path / "work"))
    assert prepared.resumed_from == result["steps"] >= 2
    assert_gone(processes)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(number, moment, marks=() if (number, moment) == ALWAYS else exhaustive)
        for number in (signal.SIGINT, signal.SIGTERM)
        for moment in ("plan", *sorted(HEAD_PROCESSES))
    ],
)
def test_a_signal_while_it_starts_ends_it_quietly(training, number, moment):
    _, process = training
    json.loads(process.stdout.readline())
    me = psutil.Process(process.pid)
    while moment != "plan" and moment not in (child.name() for child in me.children()):
        assert process.poll() is None
        time.sleep(0.01)
    processes = me.children(recursive=True)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (128 + number, "")
    assert_gone(processes)


def assert_gone(processes):
    _, left = psutil.wait_procs(processes, timeout=30)
    assert [one for one in left if one.status() != psutil.STATUS_ZOMBIE] == []
