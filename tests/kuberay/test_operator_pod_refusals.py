"""Pods that the API server refuses to KubeRay: named in the job's status within 30 s (scale tier, real KubeRay)."""

import time

import pytest

from darkroom_testing.apiserver.apiserver_world import World, denial, word_of
from darkroom_testing.apiserver.operator_process import installed
from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.kuberay.models_claim import make_models

PATIENCE_SECONDS = 30


def quota(world):
    spec = {"hard": {"requests.cpu": "100m"}}
    _apply(world, "v1", "ResourceQuota", spec)
    return "exceeded quota: obstacle"


def quota_of_pods(world):
    _apply(world, "v1", "ResourceQuota", {"hard": {"pods": "0"}})
    return "exceeded quota: obstacle"


def limit_range(world):
    limits = [{"type": "Container", "max": {"cpu": "10m"}}]
    _apply(world, "v1", "LimitRange", {"limits": limits})
    return "maximum cpu usage per Container is 10m"


def policy_of_pods(world):
    """A policy denies them: Pod Security's own levels admit our pods, all of them."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    name, message = world.namespace, "no pods on Thursdays"
    world.cluster.apply(*denial(name, world.namespace, rule, message))
    return message


def service_account(world):
    return 'serviceaccount "nobody" not found'


def priority_class(world):
    return "no PriorityClass with name highest was found"


OBSTACLES = {
    quota: {},
    quota_of_pods: {},
    limit_range: {},
    policy_of_pods: {},
    service_account: {"pods": {"serviceAccountName": "nobody"}},
    priority_class: {"pods": {"priorityClassName": "highest"}},
}
"""What is in the way, and what the job asks for."""


def _apply(world, version, kind, spec):
    metadata = {"name": "obstacle", "namespace": world.namespace}
    world.cluster.apply({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})


@pytest.fixture
def new_world(scale_cluster, tmp_path):
    with installed(scale_cluster, tmp_path) as installation:
        installation.start().wait("leading")
        worlds = []

        def made():
            namespace = scale_cluster.namespace("obstacles")
            world = World(scale_cluster, namespace.__enter__())
            make_models(world)
            worlds.append((world, namespace))
            return world

        yield made
        kinds = "validatingadmissionpolicybindings,validatingadmissionpolicies"
        scale_cluster.kubectl("delete", kinds, "--all", "--wait=false")
        for world, namespace in worlds:
            name = world.namespace
            scale_cluster.kubectl("delete", "pv", name, "--ignore-not-found", "--wait=false")
            namespace.__exit__(None, None, None)
        assert "Traceback" not in installation.log()


def message_of(world):
    conditions = world.job()["status"]["conditions"]
    return next(one["message"] for one in conditions if one["type"] == "Succeeded")


def test_pods_that_are_refused_are_named_with_what_to_do_and_come_when_it_is_mended(new_world):
    worlds = {obstacle: new_world() for obstacle in OBSTACLES}
    expected = {obstacle: obstacle(world) for obstacle, world in worlds.items()}
    time.sleep(3)  # policies and quotas are in force some moments after they were written
    for obstacle, world in worlds.items():
        world.create(**OBSTACLES[obstacle])
    begun = time.monotonic()
    for obstacle, world in worlds.items():
        wait_for(
            lambda world=world: word_of(world.job()) == "PodsRefused",
            f"PodsRefused by {obstacle.__name__}",
            PATIENCE_SECONDS - (time.monotonic() - begun),
        )
        assert expected[obstacle] in message_of(world)
        events = world.cluster.items("events", f"--namespace={world.namespace}")
        assert any(one["reason"] == "PodsRefused" for one in events)
    account = {"kind": "ServiceAccount", "apiVersion": "v1"}
    metadata = {"name": "nobody", "namespace": worlds[service_account].namespace}
    worlds[service_account].cluster.apply(account | {"metadata": metadata})
    worlds[service_account].word("Completed")


@pytest.mark.exhaustive
def test_a_gang_that_does_not_start_in_time_gives_its_place_to_others(new_world):
    world = new_world()
    nowhere = [{"key": "darkroom.dev/nowhere", "value": "here"}]
    world.create(pods={"nodeSelector": nowhere}, runPolicy={"startDeadlineSeconds": 30})
    wait_for(
        lambda: len(world.job().get("status", {}).get("attempts", ())) == 2, "second attempt", 90
    )
    first, _ = world.job()["status"]["attempts"]
    assert first["reason"] == "StartDeadlineExceeded"
    runs = world.admin.ray_jobs(world.namespace)
    assert "mascot-1" not in runs
