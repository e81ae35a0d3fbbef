"""Whether a job can run on a cluster as it is written; what only the trainer can tell, it tells."""

from datetime import datetime

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.objections import cluster_objections
from darkroom_api.status import Reason
from darkroom_operator.decisions.failures import Finding
from darkroom_operator.decisions.observed import Observed
from darkroom_operator.settings import Settings


def objection(observed: Observed, now: datetime, settings: Settings) -> Finding | None:
    """Why a job will never run; None when it can be accepted."""
    job = observed.job
    if job.spec is None:
        return Finding(Reason.SPEC_INVALID, job.problem or "it can't be read")
    for found in cluster_objections(job.spec, now, settings.file_roots):
        return Finding(found.reason, str(found.problem))
    return None


def lacking(observed: Observed) -> Finding | None:
    """What a job waits for that somebody else has to make."""
    if not observed.missing:
        return None
    names = ", ".join(observed.missing)
    spec = observed.job.spec
    consent = spec.subject.consent if spec is not None else None
    if consent is not None and consent.record_ref.name in observed.missing:
        return Finding(
            Reason.CONSENT_MISSING, f"spec.subject.consent.recordRef: there is no ConfigMap {names}"
        )
    return Finding(Reason.VOLUME_MISSING, f"there is no ConfigMap {names} in the job's namespace")


def config_maps(spec: PersonalizationJobSpec) -> tuple[str, ...]:
    """Names of the ConfigMaps that must be there before a job starts, sorted."""
    consent, images = spec.subject.consent, spec.subject.images
    names = {consent.record_ref.name} if consent is not None else set()
    if images.config_map is not None:
        names.add(images.config_map)
    if spec.pods is not None:
        names |= {variable.config_map_key_ref.name for variable in spec.pods.env}
    return tuple(sorted(names))
