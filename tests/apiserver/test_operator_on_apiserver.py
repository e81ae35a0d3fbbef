"""The life of a job under the operator as a process on a real apiserver; the test is KubeRay.

What it wrote is read from the apiserver's audit log.
"""

import shutil
import subprocess

import pytest

from darkroom_testing.apiserver.apiserver_world import World, settle
from darkroom_testing.apiserver.operator_process import installed
from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.cluster.fixtures import unavailable

WRITES_PER_JOB = 6


@pytest.fixture(scope="module")
def installation(api_cluster, tmp_path_factory):
    if api_cluster.state is None:
        pytest.skip("the audit log of the cluster is needed: --cluster=local")
    with installed(api_cluster, tmp_path_factory.mktemp("operator")) as found:
        yield found
        assert "Traceback" not in found.log()


@pytest.fixture(scope="module")
def operator(installation):
    found = installation.start()
    found.wait("leading")
    return found


@pytest.fixture
def world(api_cluster, operator):
    with api_cluster.namespace("jobs") as namespace:
        yield World(api_cluster, namespace)


def test_a_job_succeeds_with_few_writes(installation, world):
    since = world.cluster.audit_offset()
    world.create()
    world.run()
    world.cluster.kubectl(
        "wait",
        "--for=condition=Succeeded",
        "personalizationjob/mascot",
        f"--namespace={world.namespace}",
        "--timeout=30s",
    )
    settle()
    writes = installation.writes(since, world.namespace)
    assert len(writes) <= WRITES_PER_JOB, [(one.verb, one.resource) for one in writes]
    assert all(one.code < 400 for one in writes)


def test_a_failure_is_tried_again(world):
    world.create()
    world.ray_job()
    world.says("mascot-1", "Running", "RUNNING")
    world.says("mascot-1", "Failed", "FAILED", reason="AppFailed", message="NCCL error: timeout")
    world.ray_job("mascot-2")
    world.says("mascot-2", "Running", "RUNNING")
    world.says("mascot-2", "Complete", "SUCCEEDED")
    world.word("Completed")
    attempts = world.job()["status"]["attempts"]
    assert [one["name"] for one in attempts] == ["mascot-1", "mascot-2"]
    assert attempts[0]["reason"] != "Completed"


def test_suspended_and_resumed(world):
    world.create()
    world.ray_job()
    world.says("mascot-1", "Running", "RUNNING")
    world.patch(suspend=True)
    world.word("Suspended")
    assert not world.admin.ray_jobs(world.namespace)
    world.patch(suspend=False)
    world.ray_job("mascot-2")
    world.says("mascot-2", "Complete", "SUCCEEDED")
    world.word("Completed")


def test_a_deleted_job_leaves_nothing(world):
    world.create()
    world.ray_job()
    assert world.products()
    place = f"--namespace={world.namespace}"
    world.cluster.kubectl("delete", "personalizationjob", "mascot", place, "--timeout=60s")
    wait_for(lambda: not world.products(), "end of what the job had")


def test_the_metrics_are_clean(operator, world):
    promtool = shutil.which("promtool")
    if promtool is None:
        unavailable("promtool is not installed: it is in the Debian package prometheus")
    world.create()
    world.run()
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=operator.metrics(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
