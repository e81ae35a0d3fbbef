"""The operator has the rights of the chart on a real apiserver: it needs all of them and no other.

What it asked for and wrote is read from the apiserver's audit log.
"""

import json
import subprocess
import threading

import pytest

from darkroom_testing.apiserver.apiserver_world import (  # noqa: F401 - fixtures
    LABEL,
    MERGE,
    Admin,
    installation_fixture,
    job_document,
    jobs_path,
    operator_fixture,
    settle,
    world_fixture,
)
from darkroom_testing.apiserver.operator_process import granted
from darkroom_testing.cluster.cluster import wait_for


@pytest.mark.exhaustive
def test_settled_jobs_cost_no_write(installation, operator, world):
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        world.create(name)
    for name in names:
        world.run(name)
    settle()
    assert operator.stop() == 0
    since = world.cluster.audit_offset()
    again = installation.start(DARKROOM_RESYNC_SECONDS="1")
    again.wait("leading")
    listed = [("list", "personalizationjobs")] * 4

    def compared():
        seen = [(one.verb, one.resource) for one in installation.requests(since)]
        return seen.count(listed[0]) >= len(listed)

    wait_for(compared, "several full comparisons")
    settle()
    assert installation.writes(since) == []
    assert again.healthy()


def annotating(admin, namespace, stop):
    """Somebody who changes a job all the time: what was decided about it is soon old news."""
    number = 0
    while not stop.is_set():
        number += 1
        admin.patch_job(namespace, "busy", {"metadata": {"annotations": {"n": str(number)}}})


def provoke_conflicts(world):
    """A life while somebody changes the job: conflicts are part of what the roles must allow for."""
    world.create("busy")
    world.ray_job("busy-1")
    stop = threading.Event()
    other = threading.Thread(target=annotating, args=(Admin(world.cluster), world.namespace, stop))
    other.start()
    try:
        world.says("busy-1", "Running", "RUNNING")
        world.says("busy-1", "Complete", "SUCCEEDED")
        world.word("Completed", "busy")
    finally:
        stop.set()
        other.join()


def report_progress(world, operator):
    """A pod of the attempt reports, with a token that is bound to it."""
    metadata = {
        "name": "head",
        "namespace": world.namespace,
        "labels": {LABEL: "mascot", "darkroom.dev/attempt": "mascot-1"},
    }
    container = {"name": "ray", "image": "none"}
    spec = {"containers": [container], "automountServiceAccountToken": False}
    world.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    bound = ["--bound-object-kind=Pod", "--bound-object-name=head"]
    place = [f"--namespace={world.namespace}", "--audience=darkroom.dev/progress"]
    token = world.cluster.kubectl("create", "token", "default", *place, *bound).strip()
    url = f"http://127.0.0.1:{operator.port}/v1/jobs/{world.namespace}/mascot/attempts/1/progress"
    report = {"phase": "Training", "step": 50, "maxSteps": 150, "time": "2026-01-01T00:00:00Z"}
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--request", "PUT", url]
    headers = ["--header", f"Authorization: Bearer {token}"]
    subprocess.run([*command, *headers, "--data", json.dumps(report)], check=True)


def be_in_trouble(world):
    """A pod that does not start: events are asked for. A job of another operator: its Lease is."""
    labels = {LABEL: "stuck", "darkroom.dev/attempt": "stuck-1"}
    metadata = {"name": "stuck", "namespace": world.namespace, "labels": labels}
    spec = {"containers": [{"name": "ray", "image": "none"}]}
    world.create("stuck")
    world.ray_job("stuck-1")
    world.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    world.create("foreign", runPolicy={"suspend": True})
    world.word("Suspended", "foreign")
    path = f"{jobs_path(world.namespace)}/foreign/status"
    world.admin.call("PATCH", path, {"status": {"operator": "elsewhere/darkroom"}}, kind=MERGE)
    world.patch("foreign", suspend=False)


def every_right(installation, operator, world):
    """Lives in which the operator needs all that it may do."""
    be_in_trouble(world)
    photos = {"metadata": {"name": "photos", "namespace": world.namespace}}
    world.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}} | photos)
    subject = job_document("", "")["spec"]["subject"] | {"images": {"configMap": "photos"}}
    world.create(subject=subject, output={"uri": "pvc://models", "deletionPolicy": "Delete"})
    world.ray_job()
    world.says("mascot-1", "Running", "RUNNING")
    report_progress(world, operator)
    wait_for(
        lambda: world.job()["status"].get("progress", {}).get("step") == 50, "step in the status"
    )
    world.patch(suspend=True)
    world.word("Suspending")
    place = f"--namespace={world.namespace}"
    world.cluster.kubectl("delete", "pod", "head", place, "--grace-period=0", "--force")
    world.word("Suspended")
    world.patch(suspend=False)
    world.ray_job("mascot-2")
    world.says("mascot-2", "Complete", "SUCCEEDED")
    world.word("Completed")
    world.cluster.kubectl("delete", "personalizationjob", "mascot", place, "--wait=false")
    wait_for(lambda: world.cluster.items("jobs.batch", place), "removal of the model")
    world.create("brief", runPolicy={"ttlSecondsAfterFinished": 0})
    world.ray_job("brief-1")
    world.says("brief-1", "Complete", "SUCCEEDED")
    gone = ["personalizationjob", "brief", place]
    wait_for(lambda: world.cluster.get(*gone) is None, "end of the time to live")


def test_it_does_what_it_may_and_may_what_it_does(installation, operator, world):
    every_right(installation, operator, world)

    def refreshed():
        seen = {(one.verb, one.resource) for one in installation.requests()}
        wanted = {("get", "personalizationjobs"), ("get", "rayjobs"), ("list", "events")}
        return wanted <= seen

    while not refreshed():
        provoke_conflicts(world)
        world.cluster.kubectl(
            "delete", "personalizationjob", "busy", f"--namespace={world.namespace}"
        )
        wait_for(lambda: not world.products("busy"), "end of what the job had")
    assert operator.stop() == 0
    again = installation.start(DARKROOM_RESYNC_SECONDS="1")
    again.wait("leading")

    def compared():
        seen = {(one.verb, one.resource) for one in installation.requests()}
        return ("get", "endpointslices") in seen

    wait_for(compared, "a look at where reports go")
    assert again.stop() == 0
    settle()  # a watch is in the log when it has ended
    requests = [one for one in installation.requests() if not one.resource.startswith("/")]
    assert not [one for one in requests if one.code in (401, 403)]
    seen = {(one.group, one.resource, one.verb) for one in requests}
    allowed = granted(installation.documents)
    applied = {(group, resource, "create") for group, resource, verb in seen if verb == "patch"}
    assert seen <= allowed
    assert allowed - seen <= applied
    assert not [one for one in allowed | seen if one[1] == "secrets"]
