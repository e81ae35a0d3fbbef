"""The world around the operator on a real apiserver: its users, and the test in the place of KubeRay."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from darkroom_testing.apiserver.operator_process import ROOT, Installation, Operator, installed
from darkroom_testing.cluster.cluster import Cluster, Document, wait_for
from darkroom_testing.cluster.processes import client_tls

MINIATURE: Final = ROOT / "tests" / "operator" / "launch" / "data" / "input" / "miniature.yaml"
PRODUCTS: Final = "rayjobs,configmaps,networkpolicies,poddisruptionbudgets,jobs.batch"
LABEL: Final = "darkroom.dev/job"
MERGE: Final = "application/merge-patch+json"


def job_document(namespace: str, name: str, **spec: Any) -> Document:
    """A job on the miniature; `spec` replaces whole fields."""
    text = MINIATURE.read_text()
    document: Document = yaml.safe_load(text)
    document["metadata"] = {"name": name, "namespace": namespace}
    document["spec"] |= spec
    return document


class Admin:
    """An administrator's own quick client: kubectl takes a fifth of a second for each call."""

    def __init__(self, cluster: Cluster) -> None:
        state = cluster.local
        host = yaml.safe_load(state.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        address = host.removeprefix("https://")
        self._connection = http.client.HTTPSConnection(address, context=client_tls(state))

    def send(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        kind: str = "application/json",
        accept: str = "application/json",
    ) -> tuple[int, Document]:
        """Sends a request; the answer, whatever it is."""
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, {"Content-Type": kind, "Accept": accept})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def call(
        self, method: str, path: str, body: Document | None = None, **headers: str
    ) -> Document:
        """Sends a request; an answer that is an error is an exception."""
        status, answer = self.send(method, path, body, **headers)
        if status >= 400:
            raise AssertionError(f"{method} {path}: {status} {answer.get('message')}")
        return answer

    def metadata(self, path: str) -> list[Document]:
        """The objects of a list, without what is in them."""
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        return list(self.call("GET", path, accept=accept)["items"] or ())

    def lines(self, path: str) -> Iterator[bytes]:
        """What a watch brings, until the apiserver ends it."""
        self._connection.request("GET", path)
        yield from self._connection.getresponse()

    def create_job(self, document: Document) -> Document:
        return self.call("POST", jobs_path(document["metadata"]["namespace"]), document)

    def patch_job(self, namespace: str, name: str, patch: Document) -> Document:
        path = f"{jobs_path(namespace)}/{name}"
        return self.call("PATCH", path, patch, kind=MERGE)

    def jobs(self, namespace: str) -> list[Document]:
        return list(self.call("GET", jobs_path(namespace))["items"])

    def ray_jobs(self, namespace: str) -> dict[str, Document]:
        found = self.call("GET", ray_jobs_path(namespace))["items"]
        return {one["metadata"]["name"]: one for one in found}

    def count_ray_jobs(self, namespace: str) -> int:
        """Their number, without reading them all."""
        page = self.call("GET", f"{ray_jobs_path(namespace)}?limit=1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))

    def set_ray_job(
        self, namespace: str, name: str, deployment: str, job: str, **more: str
    ) -> None:
        """Says what KubeRay would say of a RayJob."""
        status = {"jobDeploymentStatus": deployment, "jobStatus": job, **more}
        path = f"{ray_jobs_path(namespace)}/{name}/status"
        self.call("PATCH", path, {"status": status}, kind=MERGE)


def jobs_path(namespace: str) -> str:
    return f"/apis/darkroom.dev/v1alpha1/namespaces/{namespace}/personalizationjobs"


def ray_jobs_path(namespace: str) -> str:
    return f"/apis/ray.io/v1/namespaces/{namespace}/rayjobs"


def word_of(job: Document) -> str:
    """The STATUS column."""
    conditions = job.get("status", {}).get("conditions", ())
    return next((one["reason"] for one in conditions if one["type"] == "Succeeded"), "")


def denial(name: str, namespace: str, rule: Document, message: str) -> tuple[Document, Document]:
    """A policy of the cluster that denies what is created of a kind in a namespace, and its binding.

    As Kyverno or Gatekeeper would deny it; `rule` has group, version and resource of the kind.
    """
    group = "admissionregistration.k8s.io/v1"
    rules = [rule | {"operations": ["CREATE"]}]
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": "false", "message": message}],
        },
    }
    binding = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": here},
    }
    return policy, binding


def settle(seconds: float = 2.0) -> None:
    """Gives the operator time for what it should not do."""
    time.sleep(seconds)


@pytest.fixture(name="installation")
def installation_fixture(api_cluster: Cluster, tmp_path: Path) -> Iterator[Installation]:
    if api_cluster.state is None:
        pytest.skip("the audit log of the cluster is needed: --cluster=local")
    with installed(api_cluster, tmp_path) as found:
        yield found
        assert "Traceback" not in found.log()


@pytest.fixture(name="operator")
def operator_fixture(installation: Installation) -> Operator:
    found = installation.start()
    found.wait("leading")
    return found


class World:
    """One namespace of jobs, and what happens to them."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace, self.admin = cluster, namespace, Admin(cluster)

    def create(self, name: str = "mascot", **spec: Any) -> None:
        self.admin.create_job(job_document(self.namespace, name, **spec))

    def patch(self, name: str = "mascot", **run_policy: Any) -> None:
        self.admin.patch_job(self.namespace, name, {"spec": {"runPolicy": run_policy}})

    def job(self, name: str = "mascot") -> Document:
        return self.admin.call("GET", f"{jobs_path(self.namespace)}/{name}")

    def word(self, word: str, name: str = "mascot") -> None:
        wait_for(lambda: word_of(self.job(name)) == word, f"{word} of {name}", pause=0.05)

    def ray_job(self, name: str = "mascot-1") -> Document:
        return wait_for(lambda: self.admin.ray_jobs(self.namespace).get(name), name, pause=0.05)

    def run(self, name: str = "mascot") -> None:
        """A run to its success."""
        self.ray_job(f"{name}-1")
        self.says(f"{name}-1", "Running", "RUNNING")
        self.says(f"{name}-1", "Complete", "SUCCEEDED")
        self.word("Completed", name)

    def says(self, ray_job: str, deployment: str, job: str, **more: str) -> None:
        self.admin.set_ray_job(self.namespace, ray_job, deployment, job, **more)

    def products(self, name: str = "mascot") -> list[Document]:
        """What belongs to a job."""
        return self.cluster.items(
            PRODUCTS, f"--selector={LABEL}={name}", f"--namespace={self.namespace}"
        )


@pytest.fixture(name="world")
def world_fixture(api_cluster: Cluster, operator: Operator) -> Iterator[World]:
    with api_cluster.namespace("jobs") as namespace:
        yield World(api_cluster, namespace)
