"""The example on a real node: helm install, kubectl apply, pods that die, and a model that is verified.

The operator runs in its own pod under its own service account, and every pod is a restricted one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.kuberay.cluster_job import ClusterJob

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "examples" / "01-mascot.yaml"

pytestmark = pytest.mark.timeout(1500)


def example(cluster, namespace):
    """The example in a namespace, applied as README says."""
    job = ClusterJob(cluster, namespace, "mascot")
    cluster.kubectl("apply", f"--filename={EXAMPLE}", job.here)
    return job


def shortened(cluster, namespace):
    """The example with fewer class images and steps: all that it does, for a likeness that nobody judges."""
    document = yaml.safe_load(EXAMPLE.read_text())
    spec = document["spec"]
    spec["priorPreservation"] |= {"numImages": 8, "samplingSteps": 4}
    spec["training"]["maxSteps"] = 30
    spec["checkpoint"]["everySteps"] = 15
    spec["validation"]["everySteps"] = 30
    job = ClusterJob(cluster, namespace, "mascot")
    cluster.kubectl("apply", "--filename=-", job.here, document=document)
    return job


def kill_all_processes(job, pod):
    """As when a machine is lost: nothing of it is told to go, nothing is saved."""
    job.cluster.kubectl("exec", pod, job.here, "--", "sh", "-c", "kill -9 -1 || true")


def logs_of(job):
    """What `darkroom logs` shows of a job, to its end."""
    job.wait_for_step(1, 1)
    command = [sys.executable, "-m", "darkroom", "logs", job.name, job.here]
    path = f"{Path(job.cluster.kubectl_command).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"KUBECONFIG": str(job.cluster.kubeconfig), "PATH": path}
    logs = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    job.succeed()
    return logs.stdout + logs.stderr


@pytest.fixture(scope="module")
def short(node_cluster, served):
    """The shortened example, trained without a disturbance; and its logs while it ran."""
    job = shortened(node_cluster, served[0])
    return job, logs_of(job)


def test_the_example_trains_to_a_verified_model(short):
    here, logs = short
    model = here.status["model"]
    assert model["uri"] == f"pvc://models/{here.namespace}/mascot/{model['digest']}"
    assert here.verified_digest() == model["digest"]
    assert here.status["progress"]["percent"] == 100
    assert [one["reason"] for one in here.attempts] == ["Completed"]
    assert "Training: step" in logs
    assert "ray-worker" in logs


def test_kubectl_shows_how_it_went(short):
    here, _ = short
    header, row = here.cluster.kubectl("get", "pj", here.here).splitlines()
    assert header.split() == ["NAME", "STATUS", "STEP", "%", "LOSS", "ETA", "ATTEMPT", "AGE"]
    assert row.split()[:4] == ["mascot", "Completed", "30", "100"]
    wait_for(lambda: not [one for one in here.products() if one.startswith("Pod/")], "end of pods")


@pytest.fixture(scope="module")
def quiet(node_cluster, served, short):
    """The example as it is, trained without a disturbance."""
    short[0].cluster.kubectl("delete", "pj", "mascot", short[0].here)
    here = example(node_cluster, served[0])
    here.succeed()
    return here


@pytest.fixture(scope="module")
def rough(node_cluster, served, quiet):
    """The same job: its worker is killed, it is suspended and resumed, its head pod is deleted."""
    del quiet  # one training at a time
    here = example(node_cluster, served[1])
    saved = here.wait_for_checkpoint()
    kill_all_processes(here, here.pod("worker"))
    here.wait_for_step(2, 5)
    here.suspend(wanted=True)
    here.wait_for_word("Suspended", seconds=200)
    assert not [one for one in here.products() if one.startswith("Pod/")]
    here.suspend(wanted=False)
    here.wait_for_step(3, 5)
    force = ["--grace-period=0", "--force"]
    here.cluster.kubectl("delete", "pod", here.pod("head"), here.here, *force)
    here.succeed()
    return here, saved


@pytest.mark.exhaustive
def test_a_job_that_lost_its_pods_and_was_suspended_ends_with_the_same_model_which_outlives_it(
    quiet, rough
):
    here, saved = rough
    attempts = here.attempts
    assert [one["reason"] for one in attempts[:2]] == ["WorkerDied", "Suspended"]
    assert attempts[1]["startStep"] == saved
    assert attempts[2]["startStep"] >= attempts[1]["endStep"] > saved
    # KubeRay may make a new head by itself and submit the job again: then the attempt goes on.
    assert attempts[-1]["reason"] == "Completed"
    assert here.verified_digest() == quiet.verified_digest() == here.status["model"]["digest"]
    digest = here.status["model"]["digest"]
    here.cluster.kubectl("delete", f"--filename={EXAMPLE}", here.here, "--timeout=120s")
    wait_for(lambda: not here.products(), "end of what the job had")
    assert here.verified_digest() == digest
