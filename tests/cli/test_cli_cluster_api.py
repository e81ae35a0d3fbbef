"""The command against a real apiserver with our CRD; no operator runs, the test writes its status."""

import json
import re
import threading
from pathlib import Path

import pytest
from PIL import Image

CRD = Path(__file__).parents[2] / "crds" / "darkroom.dev_personalizationjobs.yaml"
TIME = "2026-11-25T10:00:00Z"


@pytest.fixture(scope="module")
def cluster(api_cluster):
    crd = f"--filename={CRD}"
    api_cluster.kubectl("apply", "--server-side", crd)
    api_cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", crd)
    return api_cluster


@pytest.fixture
def namespace(cluster, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("PATH", str(Path(cluster.kubectl_command).parent), prepend=":")
    with cluster.namespace() as name:
        yield name


@pytest.fixture
def job(valid_job, tmp_path):
    text = re.sub(r"maxSteps: \d+", "maxSteps: 150", valid_job.read_text())
    valid_job.write_text(text.replace("uri: file:photos", "configMap: rex-photos"))
    (tmp_path / "photos").mkdir()
    for number in range(3):
        color = (80 * number, 90, 200)
        Image.new("RGB", (400, 300), color).save(tmp_path / "photos" / f"p{number}.png")
    return valid_job


def says(cluster, namespace, reason, status, message):
    """What the operator would write."""
    condition = {"type": "Succeeded", "status": status, "reason": reason, "message": message}
    value = {"conditions": [{**condition, "lastTransitionTime": TIME}]}
    where = ["personalizationjob", "rex", f"--namespace={namespace}", "--subresource=status"]
    cluster.kubectl("patch", *where, "--type=merge", f"--patch={json.dumps({'status': value})}")


def test_a_job_from_apply_to_cancel(cluster, namespace, job, tmp_path, darkroom):
    here = ("--namespace", namespace)
    done = darkroom("apply", job, "--photos", tmp_path / "photos", *here)
    assert done.exit_code == 0, done.stderr
    assert f"applied rex in namespace {namespace}" in done.stdout
    photos = cluster.get("configmap", "rex-photos", f"--namespace={namespace}")
    assert sorted(photos["binaryData"]) == ["001-p0.jpg", "002-p1.jpg", "003-p2.jpg"]
    managed = cluster.get("pj", "rex", f"--namespace={namespace}", "--show-managed-fields")
    (field,) = managed["metadata"]["managedFields"]
    assert (field["manager"], field["operation"]) == ("darkroom", "Apply")
    assert darkroom("apply", job, "--photos", tmp_path / "photos", *here).exit_code == 0

    done = darkroom("suspend", "rex", *here)
    assert done.stdout == "rex does not start until: darkroom resume rex\n"
    assert cluster.get("pj", "rex", f"--namespace={namespace}")["spec"]["runPolicy"]["suspend"]
    assert darkroom("apply", job, *here).exit_code == 0  # the file says nothing about suspension
    done = darkroom("suspend", "rex", *here)
    assert (done.exit_code, "rex is suspended already" in done.stderr) == (1, True)
    assert darkroom("resume", "rex", *here).exit_code == 0

    says(cluster, namespace, "Unschedulable", "Unknown", "0/3 nodes have a GPU")
    done = darkroom("describe", "rex", *here)
    assert "Unschedulable: 0/3 nodes have a GPU" in done.stdout
    assert "add nodes, or ask for less" in done.stdout

    done = darkroom("cancel", "rex", "--yes", *here)
    assert done.exit_code == 0
    assert cluster.get("pj", "rex", f"--namespace={namespace}") is None
    done = darkroom("describe", "rex", *here)
    assert f"there is no job rex in namespace {namespace}" in done.stderr


def test_a_watch_ends_with_the_job(cluster, namespace, job, darkroom):
    assert darkroom("apply", job, "--namespace", namespace).exit_code == 0
    arguments = (cluster, namespace, "DiskFull", "False", "no room on /models")
    later = threading.Timer(2, says, arguments)
    later.start()
    done = darkroom("watch", "rex", "--namespace", namespace)
    later.join()
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "rex: Pending, step 0 of 150",
        "rex: DiskFull, step 0 of 150: no room on /models",
    ]
    assert done.stderr.startswith("rex has failed: no room on /models; make room")


def test_what_the_apiserver_refuses_is_said(namespace, job, darkroom):
    here = ("--namespace", namespace)
    assert darkroom("apply", job, *here).exit_code == 0
    job.write_text(job.read_text().replace("maxSteps: 150", "maxSteps: 160"))
    done = darkroom("apply", job, *here)
    assert done.exit_code == 1
    assert "can't be changed after creation: create a new job with another name" in done.stderr
    done = darkroom("describe", "max", *here)
    assert "there is no job max" in done.stderr
    done = darkroom("watch", "max", *here)
    assert "there is no job max" in done.stderr


def test_a_field_that_somebody_else_set_is_taken_over_only_by_force(
    cluster, namespace, job, darkroom
):
    here = ("--namespace", namespace)
    job.write_text(f"{job.read_text().rstrip()}\n  runPolicy:\n    suspend: false\n")
    assert darkroom("apply", job, *here).exit_code == 0
    assert darkroom("suspend", "rex", *here).exit_code == 0
    done = darkroom("apply", job, *here)
    assert done.exit_code == 1
    assert "or take them over with --force" in done.stderr
    assert darkroom("apply", job, "--force", *here).exit_code == 0
    assert not cluster.get("pj", "rex", f"--namespace={namespace}")["spec"]["runPolicy"]["suspend"]
