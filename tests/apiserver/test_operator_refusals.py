"""Every no that an API server gives to what the operator makes, on a real one: named in the status in 30 s.

The means are an administrator's own: a ResourceQuota, an admission policy, a Role that lacks a verb, an
object of somebody else under the name that is needed, a namespace that is being deleted.
"""

import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

import pytest

from darkroom_testing.apiserver.apiserver_world import World, denial, word_of
from darkroom_testing.apiserver.operator_process import installed
from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.cluster.errors import ClusterError

PATIENCE_SECONDS = 30
DELETES = {"uri": "pvc://models", "deletionPolicy": "Delete"}


@dataclass(frozen=True)
class Kind:
    """One kind of object that is made for a job."""

    kind: str
    plural: str
    group: str
    version: str
    name: str
    spec: dict[str, Any]

    @property
    def api_version(self):
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def quota(self):
        return f"count/{self.plural}.{self.group}" if self.group else f"count/{self.plural}"


POD = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "none"}]}
KINDS = (
    Kind("ConfigMap", "configmaps", "", "v1", "job-darkroom", {}),
    Kind(
        "NetworkPolicy",
        "networkpolicies",
        "networking.k8s.io",
        "v1",
        "job-darkroom",
        {"spec": {"podSelector": {}}},
    ),
    Kind(
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "policy",
        "v1",
        "job-darkroom",
        {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}},
    ),
    Kind(
        "RayJob",
        "rayjobs",
        "ray.io",
        "v1",
        "job-1",
        {
            "spec": {
                "entrypoint": "theirs",
                "rayClusterSpec": {
                    "headGroupSpec": {"rayStartParams": {}, "template": {"spec": POD}}
                },
            }
        },
    ),
)
CLEANUP = Kind(
    "Job",
    "jobs",
    "batch",
    "v1",
    "job-cleanup",
    {"spec": {"suspend": True, "template": {"spec": POD}}},
)


def by_quota(world, kind):
    """The namespace may hold no (further) object of the kind."""
    here = ["--namespace", world.namespace]
    used = len(world.cluster.items(f"{kind.plural}.{kind.group}".rstrip("."), *here))
    spec = {"hard": {kind.quota: str(used)}}
    metadata = {"name": "tight", "namespace": world.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec}
    world.cluster.apply(quota)
    wait_for(
        lambda: world.cluster.get("resourcequota", "tight", *here)["status"].get("used"), "quota"
    )
    return "LaunchRefused", "exceeded quota: tight"


def by_policy(world, kind):
    """A policy of the cluster denies the kind in this namespace."""
    name, message = f"no-{kind.plural}-{world.namespace}", f"no {kind.plural} here"
    rule = {
        "apiGroups": [kind.group],
        "apiVersions": [kind.version],
        "resources": [kind.plural],
    }
    world.cluster.apply(*denial(name, world.namespace, rule, message))
    return "LaunchRefused", message


def by_name(world, kind):
    """Somebody else has an object of the name."""
    world.cluster.apply(theirs(world, kind))
    return "NameTaken", f"{kind.kind} {kind.name} is in the way"


def theirs(world, kind):
    metadata = {"name": kind.name, "namespace": world.namespace, "labels": {"whose": "theirs"}}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **kind.spec}


MEANS = (
    by_name,
    pytest.param(by_quota, marks=pytest.mark.exhaustive),
    pytest.param(by_policy, marks=pytest.mark.exhaustive),
)


@pytest.fixture(scope="module")
def installation(api_cluster, tmp_path_factory):
    """An operator that repeats what was refused soon enough for a test."""
    with installed(api_cluster, tmp_path_factory.mktemp("refusals")) as installation:
        installation.start(DARKROOM_REFUSAL_SECONDS="5").wait("leading")
        yield installation
        assert "Traceback" not in installation.log()


@pytest.fixture(scope="module")
def admin_of(installation):
    """Makes worlds of this operator."""
    cluster = installation.cluster
    with contextlib.ExitStack() as stack:
        yield lambda: World(cluster, stack.enter_context(cluster.namespace("refusals")))
        for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            cluster.kubectl("delete", kind, "--all", "--wait=false")


def in_force(worlds):
    """Waits until the policies are: they are some moments after they were written."""
    for world, kind in worlds:
        wait_for(lambda world=world, kind=kind: refused(world, kind), f"policy on {kind.plural}")


def refused(world, kind):
    path = f"/apis/{kind.api_version}" if kind.group else "/api/v1"
    place = f"{path}/namespaces/{world.namespace}/{kind.plural}?dryRun=All"
    probe = theirs(world, kind) | {"metadata": {"name": "probe", "namespace": world.namespace}}
    return world.admin.send("POST", place, probe)[0] in (403, 422)


def summary(world):
    conditions = world.job("job")["status"]["conditions"]
    return next(one for one in conditions if one["type"] == "Succeeded")


def is_named(world, word, text):
    job = world.job("job")
    return word_of(job) == word and text in summary(world)["message"]


def warned(world, word):
    """Whether an event says so, as `kubectl describe` shows it."""
    events = world.cluster.items("events", f"--namespace={world.namespace}")
    return any(one["reason"] == word and one["type"] == "Warning" for one in events)


def wait_until_named(cases):
    begun = time.monotonic()
    for world, word, text in cases:
        try:
            wait_for(
                lambda world=world, word=word, text=text: is_named(world, word, text),
                f"{word} with {text!r} in {world.namespace}",
                PATIENCE_SECONDS - (time.monotonic() - begun),
                0.2,
            )
        except AssertionError as error:
            error.add_note(f"the status was {world.job('job').get('status')}")
            raise


@pytest.mark.parametrize("means", MEANS)
def test_every_refusal_of_what_an_attempt_needs_is_named_and_passes(admin_of, means):
    worlds = [(admin_of(), kind) for kind in KINDS]
    expected = [(world, *means(world, kind)) for world, kind in worlds]
    if means is by_policy:
        in_force(worlds)
    for world, _ in worlds:
        world.create("job")
    wait_until_named(expected)
    for world, word, _ in expected:
        assert warned(world, word), world.namespace


def test_an_object_in_the_way_stays_as_it_is_and_the_job_begins_when_it_is_gone(admin_of):
    world, kind = admin_of(), KINDS[0]
    place = f"--namespace={world.namespace}"
    word, text = by_name(world, kind)
    world.create("job")
    wait_until_named([(world, word, text)])
    world.cluster.kubectl("delete", "pj", "job", place, "--timeout=30s")
    (found,) = (
        one
        for one in world.cluster.items(kind.plural, place)
        if one["metadata"]["name"] == kind.name
    )
    assert found["metadata"]["labels"] == {"whose": "theirs"}
    assert "ownerReferences" not in found["metadata"]
    world.create("job")
    wait_until_named([(world, word, text)])
    world.cluster.kubectl("delete", kind.plural, kind.name, place)
    world.ray_job("job-1")


@pytest.mark.parametrize("means", MEANS)
def test_every_refusal_of_a_removal_is_named_and_keeping_the_model_is_the_way_out(admin_of, means):
    world = admin_of()
    place = f"--namespace={world.namespace}"
    world.create("job", output=DELETES)
    world.ray_job("job-1")
    world.says("job-1", "Complete", "SUCCEEDED")
    world.word("Completed", "job")
    _, text = means(world, CLEANUP)
    if means is by_policy:
        in_force([(world, CLEANUP)])
    world.cluster.kubectl("delete", "pj", "job", place, "--wait=false")
    wait_until_named([(world, "CleanupFailed", text)])
    patch = {"spec": {"output": {"deletionPolicy": "Retain"}}}
    world.admin.patch_job(world.namespace, "job", patch)
    world.cluster.kubectl("wait", "--for=delete", "pj/job", place, "--timeout=30s")


def test_a_namespace_with_a_job_that_removes_its_model_goes(admin_of):
    world = admin_of()
    world.create("job", output=DELETES)
    world.ray_job("job-1")
    world.says("job-1", "Running", "RUNNING")
    world.cluster.kubectl("delete", "namespace", world.namespace, "--timeout=60s")


def test_a_verb_that_the_operator_lacks_is_named(installation, admin_of):
    cluster, world = installation.cluster, admin_of()
    role = next(
        one
        for one in installation.documents
        if one["kind"] == "ClusterRole"
        and any("rayjobs" in rule["resources"] for rule in one["rules"])
    )
    less = json.loads(json.dumps(role))
    for rule in less["rules"]:
        if "rayjobs" in rule["resources"]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != "create"]
    cluster.apply(less)
    try:
        ask = (f"--as={installation.user}", f"--namespace={world.namespace}")
        may = ("auth", "can-i", "create", "rayjobs.ray.io", *ask)
        wait_for(lambda: not succeeds(cluster, *may), "the role to be less")
        world.create("job")
        wait_until_named([(world, "LaunchRefused", 'cannot create resource "rayjobs"')])
    finally:
        cluster.apply(role)
    world.ray_job("job-1")


def succeeds(cluster, *arguments):
    try:
        cluster.kubectl(*arguments)
    except ClusterError:
        return False
    return True
