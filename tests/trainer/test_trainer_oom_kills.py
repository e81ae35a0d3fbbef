"""Processes that the kernel killed for memory are counted, on both versions of control groups.

That a worker which dies so is told as out of memory is shown on a real kubelet, by the disturbances.
"""

import pytest

from darkroom_trainer.driver.oom_kills import nodes_with_oom_kills, note_start, oom_kills

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
V2 = "low 0\nhigh 0\nmax 31\noom 3\noom_kill 2\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("groups", "file", "content"),
    [
        pytest.param("4:memory:/kubepods/pod1/c1", "memory/memory.oom_control", V1, id="v1 pod"),
        pytest.param("4:memory:/user", "memory/user/memory.oom_control", V1, id="v1 machine"),
        pytest.param("0::/", "memory.events", V2, id="v2 pod"),
        pytest.param("0::/user/1", "user/1/memory.events", V2, id="v2 machine"),
    ],
)
def test_the_count_is_that_of_the_processs_own_group(tmp_path, groups, file, content):
    own, counter = tmp_path / "cgroup", tmp_path / "root" / file
    own.write_text(f"7:cpu,cpuacct:/elsewhere\n{groups}\n")
    counter.parent.mkdir(parents=True)
    counter.write_text(content)
    assert oom_kills(own, tmp_path / "root") == 2


def test_a_kernel_that_counts_nothing_counts_as_none(tmp_path):
    (tmp_path / "cgroup").write_text("4:memory:/\n0::/\n")
    assert oom_kills(tmp_path / "cgroup", tmp_path) == 0
    assert oom_kills(tmp_path / "absent", tmp_path) == 0


def test_workers_that_never_started_have_no_node_to_ask(tmp_path):
    assert nodes_with_oom_kills(tmp_path, workers=2) == []


def test_a_full_disk_does_not_keep_a_worker_from_starting(tmp_path):
    (tmp_path / "file").touch()
    note_start(tmp_path / "file", 0, "node")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
