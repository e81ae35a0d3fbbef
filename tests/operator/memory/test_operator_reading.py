"""From what the cluster sends to what the operator thinks in, and what it keeps of it."""

import pytest

from darkroom_api.names import ATTEMPT_LABEL, JOB_LABEL
from darkroom_api.status import PersonalizationJobStatus
from darkroom_operator.cluster.resources import JOBS, PODS, RAY_JOBS
from darkroom_operator.decisions.observed import CleanupState, RunState
from darkroom_operator.memory.reading import (
    MESSAGE_LENGTH,
    compact,
    job_key,
    owner_key,
    read_cleanup,
    read_job,
    read_pod,
    read_ray_job,
    read_warnings,
    resource_version,
)
from darkroom_operator.memory.store import EVIDENCE_KEPT, Store
from darkroom_testing.in_memory.builders import KEY, UID, raw_spec

LABELS = {JOB_LABEL: "rex", ATTEMPT_LABEL: "rex-1"}


def raw_job(version=1, *, spec=None, status=None, **metadata):
    found = {
        "apiVersion": "darkroom.dev/v1alpha1",
        "kind": "PersonalizationJob",
        "metadata": {
            "name": KEY.name, "namespace": KEY.namespace, "uid": UID, "generation": 1,
            "resourceVersion": str(version), **metadata,
        },
        "spec": spec or raw_spec(),
    }  # fmt: skip
    return found | ({"status": status} if status is not None else {})


def raw_run(deployment="", job="", *, version=1, suspend=None, **metadata):
    return {
        "metadata": {
            "name": "rex-1", "namespace": "default", "uid": "r1", "labels": LABELS,
            "resourceVersion": str(version),
            "ownerReferences": [{"kind": "PersonalizationJob", "uid": UID}], **metadata,
        },
        "spec": {} if suspend is None else {"suspend": suspend},
        "status": {"jobDeploymentStatus": deployment, "jobStatus": job, "message": "m" * 9000},
    }  # fmt: skip


def raw_pod(name="rex-1-worker", *, version=1, status=None, **metadata):
    return {
        "metadata": {
            "name": name, "namespace": "default", "labels": LABELS, "resourceVersion": str(version),
            **metadata,
        },
        "status": status or {},
    }  # fmt: skip


def terminated(reason, code, state="state"):
    ended = {"terminated": {"reason": reason, "exitCode": code}}
    return {"containerStatuses": [{"name": "ray-worker", state: ended}]}


def test_a_job_survives_being_kept_small():
    kept = compact(raw_job(5, labels={"team": "pets"}, managedFields=["x" * 10_000]))
    assert sum(map(len, kept)) < 1000
    job = read_job(kept)
    assert (job.key, job.uid, job.resource_version) == (KEY, UID, "5")
    assert job.labels == {"team": "pets"}
    assert job.spec.scale.workers == 2


def test_a_spec_that_is_wrong_says_why():
    job = read_job(compact(raw_job(spec=raw_spec(training__maxSteps=0))))
    assert job.spec is None
    assert "spec.training.maxSteps" in job.problem


@pytest.mark.parametrize("status", [{"conditions": "?"}, {"phase": "Old"}, {"attempts": [{}]}])
def test_a_status_that_is_not_ours_counts_as_none(status):
    assert read_job(compact(raw_job(status=status))).status == PersonalizationJobStatus()


@pytest.mark.parametrize(
    "name", ["x", "rex-", "rex-x", "rex-0", "other-1", "rex-1/status", "../a-1"]
)
def test_an_attempt_of_another_name_is_not_ours(name):
    attempt = {"name": name, "startStep": 0, "startTime": "2026-01-01T00:00:00Z"}
    status = {"attempts": [attempt]}
    assert read_job(compact(raw_job(status=status))).status == PersonalizationJobStatus()
    status = {"attempts": [attempt | {"name": "rex-12"}]}
    assert read_job(compact(raw_job(status=status))).status.attempts[0].name == "rex-12"


def test_a_ray_job_may_have_no_spec():
    raw = raw_run("", "")
    del raw["spec"]
    assert read_ray_job(raw).state is RunState.STARTING


@pytest.mark.parametrize(
    ("deployment", "job", "suspend", "state"),
    [
        ("", "", None, RunState.STARTING),
        ("", "", True, RunState.QUEUED),
        ("Initializing", "", None, RunState.STARTING),
        ("Initializing", "", True, RunState.QUEUED),
        ("Waiting", "", None, RunState.STARTING),
        ("Running", "PENDING", None, RunState.STARTING),
        ("Running", "RUNNING", None, RunState.RUNNING),
        ("Running", "RUNNING", True, RunState.QUEUED),
        ("Suspending", "RUNNING", True, RunState.QUEUED),
        ("Suspended", "", True, RunState.QUEUED),
        ("Suspended", "", False, RunState.QUEUED),
        ("Complete", "SUCCEEDED", None, RunState.SUCCEEDED),
        ("Complete", "STOPPED", None, RunState.STOPPED),
        ("Complete", "FAILED", None, RunState.FAILED),
        ("Complete", "", None, RunState.FAILED),
        ("Failed", "FAILED", None, RunState.FAILED),
        ("Failed", "RUNNING", None, RunState.FAILED),
        ("ValidationFailed", "", None, RunState.REFUSED),
        ("SomethingNew", "", None, RunState.STARTING),
    ],
)
def test_success_is_complete_and_succeeded_and_nothing_else(deployment, job, suspend, state):
    assert read_ray_job(raw_run(deployment, job, suspend=suspend)).state is state


def test_what_kuberay_says_of_pods_that_it_cannot_make_is_one_line():
    raw = raw_run("Initializing")
    said = "FailedCreateHeadPod"
    words = f'{said}\npods "a" is forbidden: exceeded quota: q'
    condition = {"type": "ReplicaFailure", "status": "True", "reason": said, "message": words}
    raw["status"]["rayClusterStatus"] = {"conditions": [condition]}
    assert read_ray_job(raw).trouble == 'pods "a" is forbidden: exceeded quota: q'
    raw["status"]["rayClusterStatus"]["conditions"][0]["status"] = "False"
    assert read_ray_job(raw).trouble is None


def test_of_events_the_warnings_count_in_their_order():
    events = [
        {"type": "Warning", "reason": "B", "message": "b", "lastTimestamp": "2026-11-25T12:00:09Z"},
        {"type": "Normal", "reason": "Pulled", "message": "c"},
        {"type": "Warning", "reason": "A", "message": "a", "eventTime": "2026-11-25T12:00:01.5Z"},
    ]
    assert read_warnings(events) == ["A: a", "B: b"]


def test_a_ray_job_that_is_being_deleted_is_stopping_whatever_it_says():
    gone = raw_run("Complete", "SUCCEEDED", deletionTimestamp="2026-11-25T12:00:00Z")
    assert read_ray_job(gone).state is RunState.STOPPING


def test_the_end_of_a_message_is_kept_and_none_of_a_success():
    assert len(read_ray_job(raw_run("Failed", "FAILED")).message) == MESSAGE_LENGTH
    assert read_ray_job(raw_run("Complete", "SUCCEEDED")).message == ""


@pytest.mark.parametrize(
    ("status", "trouble", "evidence"),
    [
        ({}, None, None),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
            "0/1 nodes", None,
        ),
        (
            {"containerStatuses": [
                {"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "x"}}}]},
            "ImagePullBackOff: x", None,
        ),
        (
            {"initContainerStatuses": [{"name": "a", "state": {"waiting": {"reason": "PodInitializing"}}}]},
            None, None,
        ),
        (terminated("OOMKilled", 137), None, "container ray-worker terminated: OOMKilled, exit code 137"),
        (
            terminated("OOMKilled", 137, "lastState"), None,
            "container ray-worker terminated: OOMKilled, exit code 137",
        ),
        (terminated("Completed", 0), None, None),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True",
                             "reason": "PreemptionByScheduler", "message": "m"}]},
            None, "PreemptionByScheduler: m",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, None, "Evicted: low on memory"),
    ],
)  # fmt: skip
def test_what_a_pod_lacks_and_what_ended_it(status, trouble, evidence):
    pod = read_pod(raw_pod(status=status))
    assert (pod.trouble, pod.evidence) == (trouble, evidence)


def test_a_pod_without_our_label_is_none_of_ours():
    assert owner_key({"metadata": {"name": "x", "namespace": "y"}}) is None
    assert Store().put(PODS, {"metadata": {"name": "x", "namespace": "y"}}) is None


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([], CleanupState.RUNNING),
        ([{"type": "Complete", "status": "True"}], CleanupState.SUCCEEDED),
        ([{"type": "Failed", "status": "True"}], CleanupState.FAILED),
    ],
)
def test_how_far_a_removal_is(conditions, state):
    raw = {"metadata": {"name": "rex-cleanup"}, "status": {"conditions": conditions}}
    assert read_cleanup(raw).state is state


# The store.


def test_older_news_changes_nothing():
    store = Store()
    assert store.put(RAY_JOBS, raw_run("Running", "RUNNING", version=9)) == KEY
    assert store.put(RAY_JOBS, raw_run("Initializing", version=8)) is None
    assert store.put(RAY_JOBS, raw_run("Running", "RUNNING", version=9)) is None
    store.put(JOBS, raw_job(1))
    assert store.observe(KEY).runs[0].state is RunState.RUNNING


def deleted(store, resource, raw):
    return store.forget(resource, job_key(raw), resource_version(raw))


def test_a_deletion_that_is_older_than_what_is_known_changes_nothing():
    store = Store()
    store.put(RAY_JOBS, raw_run(version=9))
    assert deleted(store, RAY_JOBS, raw_run(version=8)) is None
    assert deleted(store, RAY_JOBS, raw_run(version=10)) == KEY
    assert deleted(store, RAY_JOBS, raw_run(version=11)) is None


def test_what_a_full_list_lacks_is_forgotten_unless_it_is_newer():
    store = Store()
    store.put(JOBS, raw_job(1))
    store.put(PODS, raw_pod("old", version=5))
    store.put(PODS, raw_pod("new", version=20))
    assert store.prune(PODS, set(), 10, None) == {KEY}
    assert [pod.name for pod in store.observe(KEY).pods] == ["new"]
    assert store.prune(PODS, set(), 30, "elsewhere") == set()


def test_what_ended_a_pod_is_remembered_after_it_is_gone():
    store = Store()
    attempt = {"name": "rex-1", "startStep": 0, "startTime": "2026-11-25T12:00:00Z"}
    store.put(JOBS, raw_job(1, status={"attempts": [attempt]}))
    store.put(PODS, raw_pod(version=2, status=terminated("OOMKilled", 137)))
    deleted(store, PODS, raw_pod(version=3))
    assert "OOMKilled" in store.observe(KEY).evidence[0]
    for number in range(20):
        store.put(PODS, raw_pod(version=10 + number, status=terminated("Error", number + 1)))
    assert len(store.observe(KEY).evidence) == EVIDENCE_KEPT


def test_a_job_that_is_gone_leaves_nothing_behind():
    store = Store()
    store.put(JOBS, raw_job(1))
    assert store.count() == {("default", "Pending"): 1}
    deleted(store, JOBS, raw_job(2))
    assert (store.observe(KEY), store.jobs(), store.count()) == (None, [], {})
