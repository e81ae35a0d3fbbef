"""The Job that removes a deleted job's model and checkpoints, where `output.deletionPolicy` says so."""

from typing import Final

from darkroom_api.job import PersonalizationJobSpec
from darkroom_operator.decisions.observed import Job
from darkroom_operator.launch.manifests.common import (
    VOLUMES_DIR,
    Manifest,
    claim_of,
    metadata,
    path_of,
    restricted_container,
    restricted_pod,
    run_folder,
)
from darkroom_operator.settings import Settings

DEADLINE_SECONDS: Final = 600
"""Longest time for it: deleting some gigabytes takes seconds."""


def cleanup_name(job: Job, number: int) -> str:
    """Name of the Job of a try, from 1. Each try has its own: the operator needs no right to delete one."""
    return f"{job.key.name}-cleanup" if number == 1 else f"{job.key.name}-cleanup-{number}"


def cleanup_job(
    job: Job, spec: PersonalizationJobSpec, number: int, settings: Settings
) -> Manifest:
    """Removes two folders of the output's claim."""
    model = f"{path_of(spec.output.uri)}/{job.key.namespace}/{job.key.name}"
    claim = claim_of(spec.output.uri)
    container = {
        "name": "cleanup",
        "image": settings.trainer_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["rm", "-rf", "--", model, run_folder(job, spec)],
        "resources": {
            "requests": {"cpu": "100m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "securityContext": restricted_container(),
        "volumeMounts": [{"name": "models", "mountPath": f"{VOLUMES_DIR}/{claim}"}],
    }
    meta = metadata(job, cleanup_name(job, number))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            "backoffLimit": 3,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "template": {
                "metadata": {"labels": _without_job(meta["labels"])},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": restricted_pod(),
                    "containers": [container],
                    "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}],
                },
            },
        },
    }


def _without_job(labels: dict[str, str]) -> dict[str, str]:
    """Labels by which the pod is not taken for one of an attempt."""
    return {key: value for key, value in labels.items() if key.startswith("app.")}
