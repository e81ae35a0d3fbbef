"""Names, labels, owner and places that all manifests of a job share."""

from typing import Any, Final

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.names import (
    API_VERSION,
    ATTEMPT_LABEL,
    FIELD_MANAGER,
    JOB_LABEL,
    KIND,
    MANAGED_BY_LABEL,
    QUEUE_LABEL,
    QUEUE_PRIORITY_LABEL,
)
from darkroom_api.run_layout import run_path
from darkroom_operator.decisions.observed import Job

Manifest = dict[str, Any]
"""A Kubernetes object, as it is sent."""

VOLUMES_DIR: Final = "/volumes"
"""Claims are mounted below it by their name: `pvc://CLAIM/path` is `/volumes/CLAIM/path`."""

WORK_FOLDER: Final = ".darkroom"
"""Folder of checkpoints, caches and class images in the claim of `output.uri`."""

USER_ID: Final = 65532
"""User and group of every process: nobody's, and not root."""


def child_name(job: Job) -> str:
    """Name of what a job has one of: its ConfigMap, NetworkPolicy and PodDisruptionBudget."""
    return f"{job.key.name}-darkroom"


def labels(job: Job, attempt: str | None = None) -> dict[str, str]:
    """Labels of what is made for a job."""
    found = {
        "app.kubernetes.io/name": "darkroom",
        "app.kubernetes.io/component": "trainer",
        MANAGED_BY_LABEL: FIELD_MANAGER,
        JOB_LABEL: job.key.name,
    }
    return found if attempt is None else found | {ATTEMPT_LABEL: attempt}


def queue_labels(job: Job) -> dict[str, str]:
    """Kueue's labels, if the job has a queue."""
    if job.queue is None:
        return {}
    wanted = (QUEUE_LABEL, QUEUE_PRIORITY_LABEL)
    return {label: job.labels[label] for label in wanted if label in job.labels}


def metadata(job: Job, name: str, *, attempt: str | None = None) -> Manifest:
    """Metadata of an object that goes when its job goes.

    `blockOwnerDeletion` is left out: it would need rights on the job's finalizers.
    """
    return {
        "name": name,
        "namespace": job.key.namespace,
        "labels": labels(job, attempt),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": job.key.name,
                "uid": job.uid,
                "controller": True,
            }
        ],
    }


def claim_of(uri: str) -> str:
    """Name of the claim in a `pvc://CLAIM/path`."""
    return uri.removeprefix("pvc://").partition("/")[0]


def path_of(uri: str) -> str:
    """Where a pod finds a `pvc://CLAIM/path`."""
    return f"{VOLUMES_DIR}/{uri.removeprefix('pvc://').rstrip('/')}"


def work_dir(spec: PersonalizationJobSpec) -> str:
    """Folder that all attempts share; on the output's claim, since it outlives pods and nodes."""
    return f"{VOLUMES_DIR}/{claim_of(spec.output.uri)}/{WORK_FOLDER}"


def run_folder(job: Job, spec: PersonalizationJobSpec) -> str:
    """Folder of a job's checkpoints and progress, as the trainer lays it out."""
    return f"{work_dir(spec)}/{run_path(job.key.namespace, job.key.name)}"


def restricted_pod() -> Manifest:
    """Security context of every pod: what Pod Security's level `restricted` asks for."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def restricted_container() -> Manifest:
    """Security context of every container: no rights, and a root file system that can't be written."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
