"""What the node tier does to pods by a cluster's own means, as a pod's status and its files show it."""

import json
from contextlib import contextmanager

import pytest

from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.pods import restricted_pod, volume_claim

SLEEP = ["sleep", "3600"]
STUBBORN = ["sh", "-c", "trap : TERM; echo ready; while true; do sleep 1; done"]
"""Does not go when it is told to."""

pytestmark = pytest.mark.exhaustive


class Pods:
    """Pods of one namespace."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace
        self.here = f"--namespace={namespace}"

    def start(self, name, command=SLEEP, **spec):
        self.cluster.apply(restricted_pod(name, self.namespace, list(command), **spec))
        wait_for(lambda: self.phase(name) == "Running", f"running pod {name}")
        return name

    def get(self, name):
        return self.cluster.get("pod", name, self.here)

    def phase(self, name):
        return self.get(name)["status"]["phase"]

    def container(self, name):
        (container,) = self.get(name)["status"]["containerStatuses"]
        return container

    def ended(self, name):
        """How the container of a pod ended."""
        return wait_for(
            lambda: self.container(name)["state"].get("terminated"), f"end of pod {name}"
        )

    def says(self, name, words):
        logs = ["logs", name, self.here]
        wait_for(lambda: words in self.cluster.kubectl(*logs), f"{words!r} from pod {name}")

    def shell(self, name, script):
        return self.cluster.kubectl("exec", name, self.here, "--", "sh", "-c", script)

    def wait_until_gone(self, name):
        wait_for(lambda: self.get(name) is None, f"deletion of pod {name}")


@pytest.fixture
def pods(node_cluster):
    if node_cluster.state is None:
        pytest.skip("the node of an existing cluster is not ours to disturb: --cluster=local")
    with node_cluster.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield Pods(node_cluster, name)
        node_cluster.kubectl("delete", "pods", "--all", f"--namespace={name}", "--now")


def test_a_killed_first_process_is_the_end_of_its_container(pods):
    name = pods.start("victim")
    pods.cluster.kill_container(name, pods.namespace, "main")
    assert (pods.ended(name)["reason"], pods.ended(name)["exitCode"]) == ("Error", 137)


def test_without_its_shim_a_pod_has_ended(pods):
    name = pods.start("victim")
    pods.cluster.kill_shim(name, pods.namespace)
    assert pods.ended(name)["exitCode"] != 0
    wait_for(lambda: pods.phase(name) == "Failed", "failed pod")


def test_a_container_that_starves_is_killed_for_memory(pods):
    name = pods.start("victim", ["python", "-c", "import time; time.sleep(3600)"])
    pods.cluster.starve(name, pods.namespace, "main")
    assert (pods.ended(name)["reason"], pods.ended(name)["exitCode"]) == ("OOMKilled", 137)


def test_a_full_volume_takes_nothing_more_until_it_is_freed(pods):
    pods.cluster.apply(volume_claim("models", pods.namespace))
    name = pods.start("writer", claim="models")
    pods.shell(
        name, "head -c 1000000 /dev/urandom > /models/kept; md5sum /models/kept > /models/sum"
    )
    pods.cluster.fill_volume("models", pods.namespace)
    with pytest.raises(ClusterError, match="No space left on device"):
        pods.shell(name, "head -c 100000 /dev/zero > /models/more")
    pods.cluster.free_volume("models", pods.namespace)
    pods.shell(name, "head -c 100000 /dev/zero > /models/more && md5sum --check /models/sum")


@pytest.mark.parametrize("daemon", ["kubelet", "containerd"])
def test_pods_outlive_a_daemon_and_new_ones_start_under_the_next(pods, daemon):
    name = pods.start("before")
    before, process = pods.container(name), pods.cluster.local.command(daemon).pid
    {"kubelet": pods.cluster.restart_kubelet, "containerd": pods.cluster.restart_containerd}[
        daemon
    ]()
    assert pods.cluster.local.command(daemon).pid != process
    pods.start("after")
    assert pods.container(name) == before
    assert pods.shell(name, "echo here") == "here\n"


def test_an_eviction_ends_a_pod_unless_a_budget_forbids_it(pods):
    name = pods.start("victim", STUBBORN, terminationGracePeriodSeconds=5)
    pods.says(name, "ready")
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "none", "namespace": pods.namespace},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": name}}},
    }
    pods.cluster.apply(budget)
    with pytest.raises(ClusterError, match="disruption budget"):
        pods.cluster.evict(name, pods.namespace)
    pods.cluster.kubectl("delete", "poddisruptionbudget", "none", pods.here)
    pods.cluster.evict(name, pods.namespace)
    assert disruption(pods.get(name)) == "EvictionByEvictionAPI"


def disruption(pod):
    conditions = pod["status"]["conditions"]
    return next(one["reason"] for one in conditions if one["type"] == "DisruptionTarget")


@contextmanager
def restored(undo):
    try:
        yield
    finally:
        undo()


def test_a_drained_node_is_empty_and_takes_pods_again_later(pods):
    evicted, other = pods.start("evicted"), pods.start("other")
    with restored(pods.cluster.uncordon):
        pods.cluster.drain(f"app={evicted}")
        assert pods.get(evicted) is None
        assert pods.phase(other) == "Running"
        pods.cluster.apply(restricted_pod("late", pods.namespace, SLEEP))
        wait_for(lambda: "unschedulable" in json.dumps(pods.get("late")), "pod that waits")
    wait_for(lambda: pods.phase("late") == "Running", "pod on the open node")


def test_a_taint_keeps_pods_away_or_ends_them(pods):
    name = pods.start("before")
    with restored(pods.cluster.untaint):
        pods.cluster.taint("NoSchedule")
        pods.cluster.apply(restricted_pod("late", pods.namespace, SLEEP))
        wait_for(lambda: "untolerated taint" in json.dumps(pods.get("late")), "pod that waits")
        assert pods.phase(name) == "Running"
        pods.cluster.taint("NoExecute")
        pods.wait_until_gone(name)
    wait_for(lambda: pods.phase("late") == "Running", "pod on the node without a taint")
