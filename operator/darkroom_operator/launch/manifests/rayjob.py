"""The RayJob of an attempt, for KubeRay 1.6 and 1.7."""

import hashlib
from typing import Final

from pydantic_core import to_json

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.names import JOB_FILE, RENDERED_ANNOTATION
from darkroom_operator.decisions.observed import Job
from darkroom_operator.launch.manifests.common import Manifest, metadata, queue_labels
from darkroom_operator.launch.manifests.pods import pod_template
from darkroom_operator.settings import Settings

ENTRYPOINT: Final = f"python -m darkroom_trainer --job {JOB_FILE}"
"""What the driver runs; it continues from the newest checkpoint by itself."""

OBJECT_STORE_BYTES: Final = 128 << 20
"""Ray's shared memory of a pod: nothing large goes through it."""


def ray_job(job: Job, spec: PersonalizationJobSpec, attempt: str, settings: Settings) -> Manifest:
    """One attempt. KubeRay never retries it (retries are ours, from a checkpoint), and shuts it down.

    `spec.suspend` is never named: Kueue owns it.
    """
    head = {
        "rayStartParams": _start_params(cpus=0) | {"dashboard-host": "0.0.0.0"},  # noqa: S104
        "template": pod_template(job, spec, attempt, settings, head=True),
    }
    workers = {
        "groupName": "workers",
        "replicas": spec.scale.workers,
        "minReplicas": spec.scale.workers,
        "maxReplicas": spec.scale.workers,
        "rayStartParams": _start_params(cpus=1),
        "template": pod_template(job, spec, attempt, settings, head=False),
    }
    meta = metadata(job, attempt, attempt=attempt)
    body = {
        "entrypoint": ENTRYPOINT,
        "submissionMode": "HTTPMode",
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "rayClusterSpec": {
            "rayVersion": settings.ray_version,
            "authOptions": {"mode": "token"},
            "headGroupSpec": head,
            "workerGroupSpecs": [workers],
        },
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": meta
        | {
            "labels": meta["labels"] | queue_labels(job),
            "annotations": {RENDERED_ANNOTATION: _digest(body)},
        },
        "spec": body,
    }


def rendered_digest(
    job: Job, spec: PersonalizationJobSpec, attempt: str, settings: Settings
) -> str:
    """What the RayJob of an attempt would be annotated with if it were made now."""
    annotations = ray_job(job, spec, attempt, settings)["metadata"]["annotations"]
    return str(annotations[RENDERED_ANNOTATION])


def _digest(body: Manifest) -> str:
    return hashlib.sha256(to_json(body)).hexdigest()[:16]


def _start_params(*, cpus: int) -> dict[str, str]:
    """Ray's idea of a pod. One logical CPU is one training process; the head takes none."""
    return {"num-cpus": str(cpus), "object-store-memory": str(OBJECT_STORE_BYTES)}
