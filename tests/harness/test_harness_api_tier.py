"""The api tier is a Kubernetes: what darkroom's own tests rely on."""

from pathlib import Path

import pytest

from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.cluster.errors import ClusterError

CRDS = Path(__file__).parents[2] / "crds"

pytestmark = pytest.mark.exhaustive


def config_map(name, namespace, **more):
    metadata = {"name": name, "namespace": namespace, **more}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


@pytest.fixture
def namespace(api_cluster):
    with api_cluster.namespace() as name:
        yield name


def test_it_serves_our_custom_resources(api_cluster, namespace):
    crds = [f"--filename={path}" for path in sorted(CRDS.glob("*.yaml"))]
    api_cluster.kubectl("apply", "--server-side", *crds)
    api_cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *crds)
    assert api_cluster.items("personalizationjobs", f"--namespace={namespace}") == []


def test_what_an_owner_owned_is_collected(api_cluster, namespace):
    api_cluster.apply(config_map("owner", namespace))
    owner = api_cluster.get("configmap", "owner", f"--namespace={namespace}")
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    api_cluster.apply(config_map("owned", namespace, ownerReferences=[reference]))
    api_cluster.kubectl("delete", "configmap", "owner", f"--namespace={namespace}")
    owned = ["configmap", "owned", f"--namespace={namespace}"]
    assert wait_for(lambda: api_cluster.get(*owned) is None, "collection")


def test_a_namespace_goes_with_all_that_is_in_it(api_cluster):
    with api_cluster.namespace() as name:
        api_cluster.apply(config_map("inside", name))
    assert wait_for(lambda: api_cluster.get("namespace", name) is None, "deletion")


def test_a_service_account_may_do_what_its_role_says_and_no_more(api_cluster, namespace, tmp_path):
    role = ["role", "reader", "--verb=get,list", "--resource=configmaps"]
    api_cluster.kubectl("create", *role, f"--namespace={namespace}")
    binding = ["rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:default"]
    api_cluster.kubectl("create", *binding, f"--namespace={namespace}")
    path = api_cluster.account_kubeconfig(namespace, "default", tmp_path / "kubeconfig")
    account = type(api_cluster)(path, api_cluster.kubectl_command)
    assert [one["metadata"]["name"] for one in account.items("configmaps")] == ["kube-root-ca.crt"]
    with pytest.raises(ClusterError, match="forbidden"):
        account.items("secrets")


def test_the_audit_log_tells_who_wrote_what(api_cluster, namespace, tmp_path):
    role = ["role", "writer", "--verb=patch,create", "--resource=configmaps"]
    api_cluster.kubectl("create", *role, f"--namespace={namespace}")
    binding = ["rolebinding", "writer", "--role=writer", f"--serviceaccount={namespace}:default"]
    api_cluster.kubectl("create", *binding, f"--namespace={namespace}")
    path = api_cluster.account_kubeconfig(namespace, "default", tmp_path / "kubeconfig")
    begin = api_cluster.audit_offset()
    type(api_cluster)(path, api_cluster.kubectl_command).apply(config_map("mine", namespace))
    user = f"system:serviceaccount:{namespace}:default"
    writes = [one for one in api_cluster.requests(begin, user) if one.writes]
    assert [(one.verb, one.resource, one.name, one.code) for one in writes] == [
        ("patch", "configmaps", "mine", 201)
    ]


def test_its_objects_survive_a_restart_of_the_apiserver(api_cluster, namespace):
    api_cluster.apply(config_map("kept", namespace))
    before = api_cluster.local.command("kube-apiserver").pid
    api_cluster.restart("kube-apiserver")
    assert api_cluster.local.command("kube-apiserver").pid != before
    assert api_cluster.get("configmap", "kept", f"--namespace={namespace}")


def test_while_the_apiserver_is_stopped_nothing_answers(api_cluster):
    api_cluster.stop("kube-apiserver")
    try:
        assert not api_cluster.answers()
    finally:
        api_cluster.start("kube-apiserver")
    assert api_cluster.answers()
