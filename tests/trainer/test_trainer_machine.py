"""What a worker may use of its machine: a pod sees all cores of its node, and has those of its limit."""

import os

import pytest

from darkroom_trainer.inputs import machine

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "90000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, CORES),
        ({"cpu.max": "100000000 100000\n"}, CORES),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CORES),
        ({}, CORES),
    ],
)
def test_the_limit_of_a_control_group_counts(tmp_path, monkeypatch, files, cpus):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.count_cpus() == cpus
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert machine.threads_here() == 1
