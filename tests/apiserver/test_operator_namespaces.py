"""Namespaces of their own: one that goes, with the operator's Role in it, costs the others nothing."""

import json

import pytest

from darkroom_testing.apiserver.apiserver_world import World
from darkroom_testing.apiserver.operator_process import installed
from darkroom_testing.apiserver.proxy import proxied
from darkroom_testing.cluster.cluster import wait_for

WATCHED = ("personalizationjobs", "rayjobs", "pods")


@pytest.fixture(name="names")
def names_fixture(api_cluster):
    with api_cluster.namespace("one") as one, api_cluster.namespace("two") as two:
        yield one, two


@pytest.fixture(name="installation")
def installation_of_two_fixture(api_cluster, names, tmp_path):
    watched = f"--set-json=watchNamespaces={json.dumps(names)}"
    with installed(api_cluster, tmp_path, watched) as found:
        yield found
        assert "Traceback" not in found.log()


def roles(installation, namespace):
    """The operator's rights in a namespace."""
    return [
        one
        for one in installation.documents
        if one["kind"] in ("Role", "RoleBinding") and one["metadata"]["namespace"] == namespace
    ]


def test_a_namespace_that_goes_costs_the_others_nothing_and_comes_back_without_a_restart(
    api_cluster, installation, names
):
    one, two = (World(api_cluster, name) for name in names)
    with proxied(api_cluster) as proxy:
        path = installation.folder / "proxied.kubeconfig"
        installation.kubeconfig = proxy.kubeconfig(installation.kubeconfig, path)
        operator = installation.start()
        operator.wait("leading")
        one.create()
        one.ray_job()
        said = len(operator.log.read_text())
        api_cluster.kubectl("delete", "namespace", one.namespace)
        for (
            plural
        ) in WATCHED:  # what is open stays open, until the apiserver ends it after some minutes
            proxy.do(lambda stream: stream.cut(), plural)

        def told(words):
            return operator.log.read_text()[said:].count(words)

        wait_for(lambda: told(f"of namespace {one.namespace}: ") == len(WATCHED), "three refusals")
        two.create()
        two.run()
        api_cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one.namespace}},
            *roles(installation, one.namespace),
        )
        one.create("again")
        one.run("again")
        ended = f"of namespace {one.namespace} again"
        wait_for(lambda: told(ended) == len(WATCHED), "three ends")
        assert told("darkroom_operator.cluster.outages") == 2 * len(WATCHED)
        assert told("kopf") == 0
        assert operator.healthy()
        assert operator.log.read_text().count("lease: leading") == 1
        assert operator.stop() == 0
