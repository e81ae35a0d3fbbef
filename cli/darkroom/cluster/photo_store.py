"""The ConfigMap that `darkroom apply --photos` fills: labelled, and owned by the jobs it goes with."""

import base64
from dataclasses import dataclass
from typing import Any, Final

from darkroom.cluster.kubectl import MANAGER, Kubectl, NotFoundError
from darkroom.cluster.photos import Photos
from darkroom.cluster.states import uid_of
from darkroom.errors import CommandError
from darkroom_api.job import PersonalizationJob
from darkroom_api.names import API_VERSION, JOB_LABEL, KIND, MANAGED_BY_LABEL

CONFIG_MAP: Final = {"apiVersion": "v1", "kind": "ConfigMap"}


@dataclass(frozen=True)
class PhotoStore:
    """A ConfigMap with photos, as the cluster has it."""

    name: str
    uid: str

    ours: bool
    """Whether `darkroom apply --photos` made it; another one never gets a label or an owner."""

    owners: dict[str, str]
    """Names of the jobs that own it, by their uid: it goes with the last of them."""


def find_photos(kubectl: Kubectl, name: str) -> PhotoStore | None:
    """The ConfigMap of that name; None when there is none."""
    found = _get(kubectl, name)
    return _parsed(found) if found is not None else None


def store_photos(
    kubectl: Kubectl, photos: Photos, job: PersonalizationJob, *, force: bool
) -> PhotoStore:
    """Puts the photos into the ConfigMap that the job names; replaces other content only by force."""
    name = str(job.spec.subject.images.config_map)
    binary = {key: base64.b64encode(data).decode() for key, data in photos.files.items()}
    found = _get(kubectl, name)
    if found is None:
        labels = {MANAGED_BY_LABEL: MANAGER, JOB_LABEL: job.metadata.name}
        metadata = {"name": name, "labels": labels}
        return _parsed(kubectl.create({**CONFIG_MAP, "metadata": metadata, "binaryData": binary}))
    if _content(found) == ({}, binary):
        return _parsed(found)
    if not force:
        raise CommandError(
            f"spec.subject.images.configMap: {name} exists and holds something else;"
            " name another one, or replace it with --force"
        )
    kept = {key: value for key, value in found.items() if key not in ("data", "binaryData")}
    return _parsed(kubectl.replace({**kept, "binaryData": binary}))


def set_owner(
    kubectl: Kubectl, store: PhotoStore, job: PersonalizationJob, *, owned: bool
) -> PhotoStore:
    """Lets the ConfigMap go with the job, or stay after it; what other jobs want of it stays as it is."""
    # The uid keeps apply from making an empty ConfigMap where this one has gone meanwhile.
    metadata: dict[str, Any] = {"name": store.name, "uid": store.uid}
    if owned:
        owner = {"apiVersion": API_VERSION, "kind": KIND}
        owner |= {"name": job.metadata.name, "uid": uid_of(job)}
        metadata["ownerReferences"] = [owner]
    # With a manager a job, each adds and takes away its own owner only: that of a namesake too.
    manager = f"{MANAGER}-photos-{job.metadata.name}"
    return _parsed(kubectl.apply({**CONFIG_MAP, "metadata": metadata}, manager=manager))


def _get(kubectl: Kubectl, name: str) -> dict[str, Any] | None:
    try:
        return kubectl.get("configmap", name)
    except NotFoundError:
        return None


def _content(found: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    return found.get("data", {}), found.get("binaryData", {})


def _parsed(found: dict[str, Any]) -> PhotoStore:
    metadata = found["metadata"]
    labels, owners = metadata.get("labels", {}), metadata.get("ownerReferences", ())
    return PhotoStore(
        name=metadata["name"],
        uid=metadata["uid"],
        ours=labels.get(MANAGED_BY_LABEL) == MANAGER and JOB_LABEL in labels,
        owners={one["uid"]: one["name"] for one in owners if one["kind"] == KIND},
    )
