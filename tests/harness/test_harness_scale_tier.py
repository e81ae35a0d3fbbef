"""The scale tier: real RayJobs under a real KubeRay, on nodes and dashboards that are simulated."""

from importlib.metadata import version

import pytest

from darkroom_testing.cluster.cluster import wait_for

RAY = version("ray")
RESOURCES = {"requests": {"cpu": "1", "memory": "1Gi"}}

pytestmark = pytest.mark.exhaustive


def pod(name):
    container = {"name": name, "image": f"rayproject/ray:{RAY}", "resources": RESOURCES}
    return {"spec": {"containers": [container]}}


def ray_job(name, namespace):
    workers = {"groupName": "workers", "rayStartParams": {}, "template": pod("ray-worker")}
    counts = {"replicas": 1, "minReplicas": 1, "maxReplicas": 1}
    cluster = {
        "rayVersion": RAY,
        "headGroupSpec": {"rayStartParams": {}, "template": pod("ray-head")},
        "workerGroupSpecs": [workers | counts],
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "entrypoint": "true",
            "submissionMode": "HTTPMode",
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": cluster,
        },
    }


@pytest.fixture
def namespace(scale_cluster):
    with scale_cluster.namespace() as name:
        yield name


@pytest.fixture
def finish(scale_cluster, namespace):
    """Waits until a RayJob's deployment has this status, and returns all of its status."""

    def wait(name, wanted="Complete"):
        def look():
            job = scale_cluster.get("rayjob", name, f"--namespace={namespace}") or {}
            status = job.get("status", {})
            return status if status.get("jobDeploymentStatus") == wanted else None

        return wait_for(look, f"RayJob {name} that is {wanted}", seconds=180)

    return wait


def test_a_job_goes_through_its_whole_life(scale_cluster, namespace, finish):
    scale_cluster.apply(ray_job("good", namespace))
    assert finish("good")["jobStatus"] == "SUCCEEDED"


def test_a_job_fails_as_it_is_told_to(scale_cluster, namespace, finish):
    scale_cluster.simulate(f"{namespace}/bad-*", outcome="FAILED", message="loss is NaN")
    scale_cluster.apply(ray_job("bad", namespace))
    status = finish("bad", "Failed")
    assert status["jobStatus"] == "FAILED"
    assert "loss is NaN" in status["message"]


def test_jobs_of_different_clusters_do_not_meet(scale_cluster, namespace, finish):
    names = [f"job-{number}" for number in range(5)]
    scale_cluster.simulate(f"{namespace}/job-3-*", seconds=0.2, outcome="FAILED")
    scale_cluster.apply(*(ray_job(name, namespace) for name in names))
    ends = {name: finish(name, "Failed" if name == "job-3" else "Complete") for name in names}
    assert {name for name, end in ends.items() if end["jobStatus"] != "SUCCEEDED"} == {"job-3"}


def test_a_pod_crashes_with_the_code_of_its_annotation(scale_cluster, namespace):
    scale_cluster.simulate(f"{namespace}/crash-*", seconds=-1)
    scale_cluster.apply(ray_job("crash", namespace))
    selector = ["pods", f"--namespace={namespace}", "--selector=ray.io/node-type=worker"]

    def running():
        pods = scale_cluster.items(*selector)
        return pods if pods and pods[0]["status"]["phase"] == "Running" else None

    name = wait_for(running, "running worker")[0]["metadata"]["name"]
    crash = "cluster.darkroom.dev/crash=137"
    watch = scale_cluster.audit_offset()
    scale_cluster.kubectl("annotate", "pod", name, crash, f"--namespace={namespace}")
    # KubeRay replaces a worker that failed.
    wait_for(
        lambda: name not in [one["metadata"]["name"] for one in scale_cluster.items(*selector)],
        "replacement of the worker",
    )
    by_kuberay = wait_for(
        lambda: [one for one in scale_cluster.requests(watch, "kuberay") if one.name == name],
        "requests of KubeRay",
    )
    assert "delete" in {one.verb for one in by_kuberay}
