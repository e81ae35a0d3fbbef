"""What keeps a valid job from running: what isn't there yet, a consent that ended, URIs that a cluster can't use.

One rule for lint, train, apply and the operator's acceptance. Pure: the time is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from darkroom_api.frozen_encoders import frozen_family, trained_in_vain
from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.problems import Problem
from darkroom_api.status import Reason
from darkroom_api.times import parse_time

UNAVAILABLE_SCHEMES: Final = ("s3://", "gs://")
"""Storage that the API names and no part reads or writes yet."""

_ON_A_CLUSTER: Final = {
    "spec.baseModel.uri": "use hf://ORG/NAME@COMMIT or pvc://CLAIM/path",
    "spec.subject.images.uri": "replace it by configMap: NAME and give darkroom apply --photos DIR,"
    " or use pvc://CLAIM/path",
    "spec.output.uri": "use pvc://CLAIM/path",
}


@dataclass(frozen=True)
class Objection:
    """Why a job can't run."""

    reason: Reason
    problem: Problem


def objections(spec: PersonalizationJobSpec, now: datetime) -> tuple[Objection, ...]:
    """Why a job can't run anywhere."""
    return (*unavailable(spec), *frozen_encoder(spec), *ended_consent(spec, now))


def cluster_objections(
    spec: PersonalizationJobSpec, now: datetime, file_roots: Sequence[str] = ()
) -> tuple[Objection, ...]:
    """Why a job can't run on a cluster, where all nodes have only the folders `file_roots`."""
    return (
        *unavailable(spec),
        *_off_the_cluster(spec, file_roots),
        *frozen_encoder(spec),
        *ended_consent(spec, now),
    )


def unavailable(spec: PersonalizationJobSpec) -> tuple[Objection, ...]:
    """What the API has a word for and this version does not do."""
    found = []
    for field, uri in _uris(spec).items():
        if uri.startswith(UNAVAILABLE_SCHEMES):
            fix = "copy it to a volume or a folder, and use pvc://CLAIM/path or file:PATH"
            if field == "spec.output.uri":
                fix = "use pvc://CLAIM/path or file:PATH"
            problem = Problem(field, f"{uri} is not available yet", fix)
            found.append(Objection(Reason.UNSUPPORTED_URI, problem))
    return tuple(found)


def frozen_encoder(spec: PersonalizationJobSpec) -> tuple[Objection, ...]:
    """A text encoder to be trained of a base model that is known to have none for that."""
    family = frozen_family(spec.base_model.uri)
    if family is None or not spec.training.encodes_prompts:
        return ()
    return (Objection(Reason.SPEC_INVALID, trained_in_vain(family)),)


def ended_consent(spec: PersonalizationJobSpec, now: datetime) -> tuple[Objection, ...]:
    """A depicted person's consent that ended at or before `now`."""
    consent = spec.subject.consent
    if consent is None or parse_time(consent.expires) > now:
        return ()
    problem = Problem(
        "spec.subject.consent.expires",
        f"the consent ended at {consent.expires}",
        "ask the person again, and write when their new consent ends",
    )
    return (Objection(Reason.CONSENT_EXPIRED, problem),)


def _off_the_cluster(
    spec: PersonalizationJobSpec, file_roots: Sequence[str]
) -> tuple[Objection, ...]:
    found = []
    for field, uri in _uris(spec).items():
        if not uri.startswith("file:"):
            continue
        if field == "spec.output.uri":
            message = f"{uri} can't hold a cluster's checkpoints"
        elif _is_below(uri, file_roots):
            continue
        else:
            message = f"{uri} is a folder of one machine, which a cluster can't read"
        problem = Problem(field, message, _ON_A_CLUSTER[field])
        found.append(Objection(Reason.UNSUPPORTED_URI, problem))
    return tuple(found)


def _uris(spec: PersonalizationJobSpec) -> dict[str, str]:
    found = {
        "spec.baseModel.uri": spec.base_model.uri,
        "spec.subject.images.uri": spec.subject.images.uri,
        "spec.output.uri": spec.output.uri,
    }
    return {field: uri for field, uri in found.items() if uri is not None}


def _is_below(uri: str, roots: Sequence[str]) -> bool:
    path = uri.removeprefix("file:")
    return ".." not in path.split("/") and any(
        path == root or path.startswith(f"{root.rstrip('/')}/") for root in roots
    )
