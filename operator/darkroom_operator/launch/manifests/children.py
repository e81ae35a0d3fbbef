"""What an attempt needs beside its run: the job file, a network policy and a disruption budget."""

import json
from pathlib import PurePosixPath
from typing import Final

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.names import API_VERSION, JOB_FILE, JOB_LABEL, KIND
from darkroom_operator.decisions.observed import Job
from darkroom_operator.launch.manifests.common import Manifest, child_name, metadata
from darkroom_operator.settings import Settings

DASHBOARD_PORT: Final = 8265
"""TCP port of Ray's dashboard, where KubeRay submits jobs and asks after them."""

KUBERAY_NAMES: Final = ("kuberay", "kuberay-operator")
"""`app.kubernetes.io/name` of KubeRay's operator: as its manifests and its chart label it."""


def children(job: Job, spec: PersonalizationJobSpec, settings: Settings) -> tuple[Manifest, ...]:
    """All of it; the same for each attempt of a job."""
    return (
        config_map(job, spec),
        network_policy(job, settings),
        disruption_budget(job, spec),
    )


def config_map(job: Job, spec: PersonalizationJobSpec) -> Manifest:
    """The job as the trainer reads it, without what is ours alone: the run policy and the pods."""
    document = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": job.key.name, "namespace": job.key.namespace},
        "spec": spec.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude={"run_policy", "pods"}
        ),
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(job, child_name(job)),
        "data": {PurePosixPath(JOB_FILE).name: json.dumps(document, indent=1)},
    }


def network_policy(job: Job, settings: Settings) -> Manifest:
    """Pods of a job talk to each other; of all others only KubeRay may call, and only the dashboard.

    Whoever reaches Ray's ports can run code in its pods: the token is one lock, this is the other. Out
    go DNS, https (the Hub, buckets) and the reports of progress.
    """
    ours = {"podSelector": {"matchLabels": {JOB_LABEL: job.key.name}}}
    egress: list[Manifest] = [
        {"to": [ours]},
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {"ports": [{"port": 443, "protocol": "TCP"}]},
    ]
    if settings.progress_url:
        operator = {"app.kubernetes.io/name": "darkroom", "app.kubernetes.io/component": "operator"}
        peer = {"namespaceSelector": {}, "podSelector": {"matchLabels": operator}}
        egress.append({"to": [peer], "ports": [{"port": settings.port, "protocol": "TCP"}]})
    kuberay = {"key": "app.kubernetes.io/name", "operator": "In", "values": list(KUBERAY_NAMES)}
    caller = {"namespaceSelector": {}, "podSelector": {"matchExpressions": [kuberay]}}
    dashboard = [{"port": DASHBOARD_PORT, "protocol": "TCP"}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(job, child_name(job)),
        "spec": {
            **ours,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [ours]}, {"from": [caller], "ports": dashboard}],
            "egress": egress,
        },
    }


def disruption_budget(job: Job, spec: PersonalizationJobSpec) -> Manifest:
    """Lets a drain take one pod at a time: the first one to go makes all of them save.

    A number, since a share needs a controller with a scale: 1 head and the workers, less one.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(job, child_name(job)),
        "spec": {
            "minAvailable": spec.scale.workers,
            "selector": {"matchLabels": {JOB_LABEL: job.key.name}},
        },
    }
