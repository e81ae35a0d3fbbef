"""The node tier: pods that run, find each other by name, keep files, and a RayJob that trains."""

import json
from importlib.metadata import version

import pytest

from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.cluster.pods import RESTRICTED, USER, restricted_pod, volume_claim

RAY = version("ray")

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def namespace(node_cluster):
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    with node_cluster.namespace(**enforce) as name:
        yield name


@pytest.fixture
def output(node_cluster, namespace):
    """Runs a pod to its end, and returns what it printed."""

    def run(name, command, **spec):
        node_cluster.apply(restricted_pod(name, namespace, command, **spec))
        here = f"--namespace={namespace}"

        def ended():
            status = node_cluster.get("pod", name, here)["status"]
            return status["phase"] in ("Succeeded", "Failed") and status["phase"]

        phase = wait_for(ended, f"end of pod {name}", seconds=120)
        logs = node_cluster.kubectl("logs", name, here)
        assert phase == "Succeeded", logs
        return logs

    return run


def test_a_restricted_pod_runs_the_python_and_the_code_of_this_checkout(output):
    script = "import os, darkroom_api; print(os.getuid(), darkroom_api.__file__)"
    user, path = output("python", ["python", "-c", script]).split()
    assert user == "65532"
    assert path.endswith("crds/darkroom_api/__init__.py")


def test_a_pod_reaches_the_apiserver_and_a_service_by_name(node_cluster, namespace, output):
    server = ["python", "-m", "http.server", "8080", "--directory", "/etc"]
    node_cluster.apply(restricted_pod("web", namespace, server))
    port = {"port": 80, "targetPort": 8080}
    node_cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"selector": {"app": "web"}, "ports": [port]},
        }
    )
    script = f"""
import socket, time, urllib.request
for _ in range(100):
    try:
        answer = urllib.request.urlopen("http://web.{namespace}/passwd", timeout=2).read().decode()
        break
    except OSError:
        time.sleep(0.3)
print(socket.gethostbyname("kubernetes.default.svc.cluster.local"), "nonroot" in answer)
"""
    assert output("client", ["python", "-c", script]).split() == ["10.96.0.1", "True"]


def test_a_claim_gets_a_volume_that_outlives_the_pod(node_cluster, namespace, output):
    node_cluster.apply(volume_claim("models", namespace))
    output("writer", ["sh", "-c", "echo kept > /models/file"], claim="models")
    assert output("reader", ["cat", "/models/file"], claim="models") == "kept\n"


def test_a_real_ray_job_succeeds(node_cluster, namespace):
    command = "import ray; ray.init(); print(len(ray.nodes()), 'nodes')"
    node_cluster.apply(ray_job("real", namespace, f'python -c "{command}"'))

    def ended():
        job = node_cluster.get("rayjob", "real", f"--namespace={namespace}")
        status = job.get("status", {}).get("jobDeploymentStatus")
        return job["status"] if status in ("Complete", "Failed") else None

    status = wait_for(ended, "end of the RayJob", seconds=300)
    assert status["jobStatus"] == "SUCCEEDED", json.dumps(status, indent=1)


def ray_pod(name):
    """A restricted pod of Ray: it writes into /tmp alone."""
    requests = {"cpu": "300m", "memory": "1Gi"}
    container = {
        "name": name,
        "image": f"docker.io/rayproject/ray:{RAY}",
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
        "securityContext": RESTRICTED,
        "resources": {"requests": requests, "limits": {"cpu": "2", "memory": "4Gi"}},
    }
    volumes = [{"name": "scratch", "emptyDir": {}}]
    return {"spec": {"securityContext": USER, "containers": [container], "volumes": volumes}}


def ray_job(name, namespace, entrypoint):
    start = {"num-cpus": "1", "memory": "2000000000", "object-store-memory": "100000000"}
    workers = {"groupName": "workers", "rayStartParams": start, "template": ray_pod("ray-worker")}
    counts = {"replicas": 1, "minReplicas": 1, "maxReplicas": 1}
    head = {
        "rayStartParams": {**start, "dashboard-host": "0.0.0.0"},
        "template": ray_pod("ray-head"),
    }
    cluster = {
        "rayVersion": RAY,
        "headGroupSpec": head,
        "workerGroupSpecs": [workers | counts],
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "entrypoint": entrypoint,
            "submissionMode": "HTTPMode",
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": cluster,
        },
    }
