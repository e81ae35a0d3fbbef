"""The volumes of an attempt's pods: claims, the job, pictures, credentials, a token for progress, scratch."""

from pathlib import PurePosixPath
from typing import Final

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.names import JOB_FILE, PROGRESS_AUDIENCE
from darkroom_operator.decisions.observed import Job
from darkroom_operator.launch.manifests.common import VOLUMES_DIR, Manifest, child_name, claim_of
from darkroom_operator.settings import Settings

PHOTOS_DIR: Final = "/etc/darkroom-photos"
"""Where `images.configMap` is mounted."""

SECRET_DIR: Final = "/etc/darkroom-secret"  # noqa: S105 - a path, not a secret
"""Where `pods.secretRef` is mounted."""

TOKEN_FILE: Final = "/var/run/secrets/darkroom.dev/progress/token"  # noqa: S105 - a path, not a token
"""Where kubelet keeps the token for progress fresh."""

TOKEN_SECONDS: Final = 3600
"""Life of that token; kubelet renews it in time."""


def volumes(job: Job, spec: PersonalizationJobSpec, settings: Settings) -> list[Manifest]:
    """The volumes that every pod of an attempt has."""
    found: list[Manifest] = [
        {"name": "scratch", "emptyDir": {"sizeLimit": settings.scratch_size}},
        {"name": "job", "configMap": {"name": child_name(job)}},
    ]
    found += [
        {"name": _volume_name(index), "persistentVolumeClaim": {"claimName": claim}}
        for index, claim in enumerate(claims(spec))
    ]
    if spec.subject.images.config_map is not None:
        found.append({"name": "photos", "configMap": {"name": spec.subject.images.config_map}})
    if spec.pods is not None and spec.pods.secret_ref is not None:
        secret = {"secretName": spec.pods.secret_ref.name, "defaultMode": 0o440}
        found.append({"name": "secret", "secret": secret})
    if settings.progress_url:
        token = {"audience": PROGRESS_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
        found.append(
            {"name": "progress", "projected": {"sources": [{"serviceAccountToken": token}]}}
        )
    return found


def mounts(spec: PersonalizationJobSpec, settings: Settings) -> list[Manifest]:
    """Where they are mounted; only scratch and the output's claim can be written."""
    output = claim_of(spec.output.uri)
    found: list[Manifest] = [
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        {"name": "job", "mountPath": str(PurePosixPath(JOB_FILE).parent), "readOnly": True},
    ]
    found += [
        {
            "name": _volume_name(index),
            "mountPath": f"{VOLUMES_DIR}/{claim}",
            **({} if claim == output else {"readOnly": True}),
        }
        for index, claim in enumerate(claims(spec))
    ]
    if spec.subject.images.config_map is not None:
        found.append({"name": "photos", "mountPath": PHOTOS_DIR, "readOnly": True})
    if spec.pods is not None and spec.pods.secret_ref is not None:
        found.append({"name": "secret", "mountPath": SECRET_DIR, "readOnly": True})
    if settings.progress_url:
        folder = str(PurePosixPath(TOKEN_FILE).parent)
        found.append({"name": "progress", "mountPath": folder, "readOnly": True})
    return found


def claims(spec: PersonalizationJobSpec) -> tuple[str, ...]:
    """Claims that a job names, the output's first, each once."""
    uris = (spec.output.uri, spec.base_model.uri, spec.subject.images.uri or "")
    found = (claim_of(uri) for uri in uris if uri.startswith("pvc://"))
    return tuple(dict.fromkeys(found))


def _volume_name(index: int) -> str:
    """A claim's own name may be longer than a volume's."""
    return f"claim-{index}"
