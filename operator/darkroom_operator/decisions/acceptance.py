"""Whether a job can run on a cluster as it is written; what only the trainer can tell, it tells."""

from datetime import datetime

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.status import Reason
from darkroom_api.times import parse_time
from darkroom_operator.decisions.failures import Finding
from darkroom_operator.decisions.observed import Observed
from darkroom_operator.settings import Settings


def objection(observed: Observed, now: datetime, settings: Settings) -> Finding | None:
    """Why a job will never run; None when it can be accepted."""
    job = observed.job
    if job.spec is None:
        return Finding(Reason.SPEC_INVALID, job.problem or "it can't be read")
    return _bad_uri(job.spec, settings) or _no_consent(job.spec, now)


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


def _bad_uri(spec: PersonalizationJobSpec, settings: Settings) -> Finding | None:
    images = spec.subject.images.uri
    for field, uri in (
        ("spec.baseModel.uri", spec.base_model.uri),
        ("spec.subject.images.uri", images),
        ("spec.output.uri", spec.output.uri),
    ):
        if uri is not None and uri.startswith("file:") and not _allowed(uri, settings):
            return Finding(
                Reason.UNSUPPORTED_URI,
                f"{field}: {uri} is a folder of a laptop; a cluster reads pvc://CLAIM/path",
            )
    if not spec.output.uri.startswith("pvc://"):
        return Finding(
            Reason.UNSUPPORTED_URI,
            f"spec.output.uri: {spec.output.uri} can't hold checkpoints; set pvc://CLAIM/path",
        )
    return None


def _allowed(uri: str, settings: Settings) -> bool:
    path = uri.removeprefix("file:")
    return ".." not in path.split("/") and any(
        path == root or path.startswith(f"{root.rstrip('/')}/") for root in settings.file_roots
    )


def _no_consent(spec: PersonalizationJobSpec, now: datetime) -> Finding | None:
    consent = spec.subject.consent
    if consent is None or parse_time(consent.expires) > now:
        return None
    return Finding(Reason.CONSENT_EXPIRED, f"spec.subject.consent: it ended at {consent.expires}")
