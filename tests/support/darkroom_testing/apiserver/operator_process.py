"""The operator as a process on a real apiserver, with the rights that the chart gives it, and the
test in the place of KubeRay. `benchmarks.bench_operator` measures with the same."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.error import URLError

import yaml

from darkroom_testing.cluster.api_tier import free_ports
from darkroom_testing.cluster.audit import Request
from darkroom_testing.cluster.build import ensure
from darkroom_testing.cluster.cluster import Cluster, Document, wait_for

ROOT: Final = Path(__file__).resolve().parents[4]
CHART: Final = ROOT / "charts" / "darkroom"
RELEASE: Final = "darkroom"
ACCOUNT_KINDS: Final = (
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
)
NOT_OF_JOBS: Final = ("leases", "tokenreviews", "endpointslices")
"""What the operator writes for itself: who leads, whose token came with a report, where reports go."""

QUICK: Final = {"DARKROOM_BACKOFF_SECONDS": "1"}
"""Shorter waits than a user's; nothing else differs from what the chart sets."""

Rule = tuple[str, str, str]
"""Group, resource and verb, as RBAC names them."""


def rendered(namespace: str, *arguments: str) -> list[Document]:
    """What `helm install` would send, by real helm and with the values that users get."""
    command = [ensure(["helm"])["helm"], "template", RELEASE, str(CHART), *arguments]
    done = subprocess.run(
        [*command, f"--namespace={namespace}"], capture_output=True, text=True, check=True
    )
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def install_crds(cluster: Cluster, documents: list[Document]) -> None:
    """Ours as the chart has it, and KubeRay's of the module that the test cluster is built from."""
    folder = ensure(["kuberay-operator"]).folders["kuberay"]
    ray_job = yaml.safe_load((folder / "ray.io_rayjobs.yaml").read_text())
    ours = [one for one in documents if one["kind"] == "CustomResourceDefinition"]
    cluster.apply(ray_job, *ours)
    names = [f"crd/{one['metadata']['name']}" for one in (ray_job, *ours)]
    # `kubectl wait` fails for a CRD that has no conditions yet.
    wait_for(lambda: all(_established(cluster, name) for name in names), "served CRDs")


def _established(cluster: Cluster, name: str) -> bool:
    conditions = (cluster.get(name) or {}).get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def environment(documents: list[Document]) -> dict[str, str]:
    """What the chart's Deployment sets; the fields of its pod have to be given."""
    (deployment,) = (one for one in documents if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"] if one.get("value")}


def granted(documents: list[Document]) -> set[Rule]:
    """What the roles that are bound to the operator allow."""
    bound = {
        one["roleRef"]["name"]
        for one in documents
        if one["kind"].endswith("RoleBinding")
        and any(subject["kind"] == "ServiceAccount" for subject in one["subjects"])
    }
    return {
        (group, resource, verb)
        for document in documents
        if document["kind"] in ("Role", "ClusterRole") and document["metadata"]["name"] in bound
        for rule in document["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@dataclass
class Operator:
    """One running process of the operator."""

    name: str
    port: int
    metrics_port: int
    log: Path
    process: subprocess.Popen[bytes]

    def readiness(self) -> str:
        """`leading`, `standby`, or nothing while it is not ready."""
        return self._read(self.port, "/readyz")

    def healthy(self) -> bool:
        return self._read(self.port, "/healthz") == "ok"

    def metrics(self) -> str:
        return self._read(self.metrics_port, "/metrics")

    def _read(self, port: int, path: str) -> str:
        url = f"http://127.0.0.1:{port}{path}"
        quiet = suppress(URLError, ConnectionError, TimeoutError)
        with quiet, urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
        return ""

    def wait(self, word: str) -> None:
        """Waits until `/readyz` says so; the log is the error when the process ended."""

        def look() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended:\n{self.log.read_text()[-3000:]}")
            return self.readiness() == word

        wait_for(look, f"{self.name} that says {word!r}", pause=0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


@dataclass
class Installation:
    """The chart's service account and roles in a namespace, and the operators that use them."""

    cluster: Cluster
    namespace: str
    folder: Path
    documents: list[Document]
    kubeconfig: Path
    operators: list[Operator] = field(default_factory=list)

    @property
    def user(self) -> str:
        """As the audit log names it."""
        return f"system:serviceaccount:{self.namespace}:{RELEASE}-operator"

    def start(self, **settings: str) -> Operator:
        """Starts a process as a pod of the Deployment would be, but for its image."""
        name = f"operator-{len(self.operators)}"
        port, metrics_port = free_ports(2)
        log = self.folder / f"{name}.log"
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("crds", "operator")),
            "KUBECONFIG": str(self.kubeconfig),
            **environment(self.documents),
            **QUICK,
            "DARKROOM_POD_NAME": name,
            "DARKROOM_POD_NAMESPACE": self.namespace,
            "DARKROOM_POD_IP": f"10.1.0.{len(self.operators) + 1}",
            "DARKROOM_PORT": str(port),
            "DARKROOM_METRICS_PORT": str(metrics_port),
            **settings,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "darkroom_operator"],
                env=variables,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        operator = Operator(name, port, metrics_port, log, process)
        self.operators.append(operator)
        return operator

    def stop(self) -> None:
        """Ends whatever still runs."""
        for operator in self.operators:
            operator.stop()

    def log(self) -> str:
        """What all of them have said."""
        return "\n".join(operator.log.read_text() for operator in self.operators)

    def requests(self, since: int = 0) -> list[Request]:
        return self.cluster.requests(since, self.user)

    def writes(self, since: int = 0, namespace: str | None = None) -> list[Request]:
        """What was written about jobs: who leads and whose token it is does not count."""
        return [
            one
            for one in self.requests(since)
            if one.writes and one.resource not in NOT_OF_JOBS and namespace in (None, one.namespace)
        ]


@contextmanager
def installed(cluster: Cluster, folder: Path, *arguments: str) -> Iterator[Installation]:
    """CRDs and the operator's account, by the chart with helm's `arguments`; what was started is ended."""
    with cluster.namespace("darkroom") as namespace:
        documents = rendered(namespace, *arguments)
        install_crds(cluster, documents)
        cluster.apply(*(one for one in documents if one["kind"] in ACCOUNT_KINDS))
        path = folder / "operator.kubeconfig"
        account = f"{RELEASE}-operator"
        kubeconfig = cluster.account_kubeconfig(namespace, account, path)
        installation = Installation(cluster, namespace, folder, documents, kubeconfig)
        try:
            yield installation
        finally:
            installation.stop()
            roles = [
                f"{one['kind']}/{one['metadata']['name']}"
                for one in documents
                if one["kind"].startswith("ClusterRole")
            ]
            cluster.kubectl("delete", "--ignore-not-found", *roles)
