"""The operator with a real KubeRay, on nodes and Ray dashboards that are simulated (scale tier)."""

import pytest

from darkroom_testing.apiserver.apiserver_world import World, job_document, ray_jobs_path, word_of
from darkroom_testing.apiserver.operator_process import installed
from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.kuberay.models_claim import make_models

QUEUE = {"kueue.x-k8s.io/queue-name": "gpus"}


@pytest.fixture(scope="module")
def operator(scale_cluster, tmp_path_factory):
    with installed(scale_cluster, tmp_path_factory.mktemp("operator")) as installation:
        installation.start().wait("leading")
        yield
        assert "Traceback" not in installation.log()


@pytest.fixture
def world(scale_cluster, operator):
    with scale_cluster.namespace("jobs") as namespace:
        yield World(scale_cluster, namespace)
        scale_cluster.kubectl("delete", "pv", namespace, "--ignore-not-found", "--wait=false")


@pytest.fixture
def models(world):
    make_models(world)


def test_a_missing_volume_is_named_and_when_it_comes_the_job_runs(world):
    world.create()
    world.word("VolumeMissing")
    conditions = {one["type"]: one for one in world.job()["status"]["conditions"]}
    assert 'persistentvolumeclaim "models" not found' in conditions["Succeeded"]["message"]
    make_models(world)
    world.word("Completed")
    assert len(world.job()["status"]["attempts"]) == 1


def test_a_job_goes_through_its_life_and_leaves_no_ray_cluster(world, models):
    world.create()
    world.word("Completed")
    place = f"--namespace={world.namespace}"
    wait_for(lambda: not world.cluster.items("rayclusters", place), "end of the Ray cluster")
    wait_for(lambda: not world.cluster.items("pods", place), "end of its pods")


def test_what_ray_says_of_a_failure_decides_about_another_attempt(world, models):
    simulate = world.cluster.simulate
    simulate(f"{world.namespace}/*", outcome="FAILED", message="RuntimeError: NCCL error: timeout")
    world.create()
    wait_for(lambda: len(world.job().get("status", {}).get("attempts", ())) > 1, "second attempt")
    simulate(f"{world.namespace}/*", outcome="SUCCEEDED")
    world.word("Completed")
    attempts = world.job()["status"]["attempts"]
    assert (attempts[0]["reason"], attempts[-1]["reason"]) == ("CollectiveFailed", "Completed")
    simulate(f"{world.namespace}/*", outcome="FAILED", message="darkroom: TooFewPhotos: 1 photo")
    world.create("hopeless")
    world.word("TooFewPhotos", "hopeless")
    assert len(world.job("hopeless")["status"]["attempts"]) == 1


def test_many_jobs_at_once_all_succeed(world, models):
    names = [f"job-{number}" for number in range(20)]
    for name in names:
        world.create(name)

    def over():
        return all(word_of(job) == "Completed" for job in world.admin.jobs(world.namespace))

    wait_for(over, "success of each job", 300, 1.0)
    assert sorted(world.admin.ray_jobs(world.namespace)) == sorted(f"{name}-1" for name in names)


@pytest.fixture
def queue(world):
    """In the place of Kueue's webhook: RayJobs with a queue begin suspended, by an admission policy."""
    name, group = "stands-for-kueue", "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["ray.io"], "apiVersions": ["v1"], "resources": ["rayjobs"]}
    has_queue = "'kueue.x-k8s.io/queue-name' in object.metadata.?labels.orValue({})"
    suspended = {"expression": "Object{spec: Object.spec{suspend: true}}"}
    policy = {
        "apiVersion": group,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule | {"operations": ["CREATE"]}]},
            "matchConditions": [{"name": "queued", "expression": has_queue}],
            "mutations": [
                {"patchType": "ApplyConfiguration", "applyConfiguration": suspended},
            ],
        },
    }
    binding = {
        "apiVersion": group,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }
    world.cluster.apply(policy, binding)
    # It is in force some moments later.
    wait_for(lambda: begins_suspended(world), "policy on RayJobs")
    yield
    world.cluster.kubectl("delete", f"mutatingadmissionpolicies/{name}")
    world.cluster.kubectl("delete", f"mutatingadmissionpolicybindings/{name}")


def begins_suspended(world):
    """Whether a RayJob with a queue does, when one is created on trial."""
    probe = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": "probe", "labels": QUEUE},
    }
    place = f"{ray_jobs_path(world.namespace)}?dryRun=All"
    return world.admin.call("POST", place, probe).get("spec", {}).get("suspend")


def test_a_queued_job_runs_when_its_quota_comes_and_again_after_an_eviction(world, models, queue):
    world.cluster.simulate(f"{world.namespace}/*", seconds=-1)
    document = job_document(world.namespace, "mascot")
    document["metadata"]["labels"] = QUEUE
    world.admin.create_job(document)
    world.word("Queued")
    assert world.ray_job()["spec"]["suspend"] is True
    assert world.ray_job()["metadata"]["labels"].items() >= QUEUE.items()
    admit(world, True)
    world.word("Starting")
    wait_for(lambda: phases(world) == {"Running"}, "running pods")
    admit(world, False)
    world.word("Queued")
    wait_for(lambda: not phases(world), "end of the pods")
    world.cluster.simulate(f"{world.namespace}/*", seconds=1)
    admit(world, True)
    world.word("Completed")
    (attempt,) = world.job()["status"]["attempts"]
    assert attempt["name"] == "mascot-1"


def admit(world, admitted):
    """Kueue's word: it alone changes `suspend`."""
    patch = f'{{"spec":{{"suspend":{"false" if admitted else "true"}}}}}'
    merge = ["--type=merge", f"--patch={patch}", f"--namespace={world.namespace}"]
    world.cluster.kubectl("patch", "rayjob", "mascot-1", *merge)


def phases(world):
    pods = world.cluster.items("pods", f"--namespace={world.namespace}")
    return {pod["status"]["phase"] for pod in pods}
