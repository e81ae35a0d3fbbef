"""Makes jobs, statuses, runs and pods for tests; each call says only what it is about."""

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.load import parse_job
from darkroom_api.report import ProgressReport, RunPhase
from darkroom_api.status import CheckpointStatus, ModelStatus, PersonalizationJobStatus
from darkroom_api.times import format_time
from darkroom_operator.decisions.observed import Job, Key, Observed, Pod, Report, Run, RunState
from darkroom_operator.settings import Settings

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
KEY = Key("default", "rex")
UID = "11111111-2222-3333-4444-555555555555"
DIGEST = "a" * 64
SETTINGS = Settings(progress_url="http://darkroom-operator.darkroom.svc:8080")
SPEC = {
    "baseModel": {"uri": "builtin:miniature"},
    "subject": {
        "kind": "Animal",
        "identifier": "sks",
        "classNoun": "dog",
        "images": {"uri": "builtin:mascot"},
    },
    "scale": {"workers": 2},
    "output": {"uri": "pvc://models"},
}


def seconds(number):
    return timedelta(seconds=number)


def raw_spec(**changes):
    """A spec as JSON, with fields set by `section__field=value` or `section={...}`."""
    spec = copy.deepcopy(SPEC)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = spec
        for name in parents:
            target = target.setdefault(name, {})
        target[last] = value
    return spec


def parse_spec(raw) -> PersonalizationJobSpec:
    return parse_job(
        {
            "apiVersion": "darkroom.dev/v1alpha1",
            "kind": "PersonalizationJob",
            "metadata": {"name": KEY.name},
            "spec": raw,
        }
    ).spec


def job(*, status=None, labels=None, deleting=False, finalizers=(), generation=1, **changes) -> Job:
    return Job(
        key=KEY,
        uid=UID,
        generation=generation,
        resource_version="1",
        labels=labels or {},
        deleting=deleting,
        finalizers=frozenset(finalizers),
        spec=parse_spec(raw_spec(**changes)),
        problem=None,
        status=status or PersonalizationJobStatus(),
    )


def observed(**facts) -> Observed:
    """What is known: `job=...` or the fields of one, and runs, pods and so on."""
    known = {name: facts.pop(name) for name in list(facts) if name in Observed.__slots__}
    return Observed(**{"job": job(**facts)} | known)


def run(state=RunState.RUNNING, *, name="rex-1", message="", owner=UID) -> Run:
    return Run(name=name, uid=f"uid-of-{name}", owner_uid=owner, state=state, message=message)


def pod(name="rex-1-worker", *, attempt="rex-1", **facts) -> Pod:
    return Pod(name=name, attempt=attempt, **facts)


def checkpoint(step) -> CheckpointStatus:
    return CheckpointStatus.of(
        step=step, uri=f"pvc://models/.darkroom/step-{step}", digest=DIGEST, time=format_time(NOW)
    )


MODEL = ModelStatus.of(uri="pvc://models/default/rex", digest=DIGEST, size_bytes=1000)


def report(
    step=10, *, attempt="rex-1", phase=RunPhase.TRAINING, advanced=NOW, max_steps=800, **fields
) -> Report:
    body = ProgressReport.of(
        phase=phase, step=step, max_steps=max_steps, time=format_time(advanced), **fields
    )
    return Report(attempt=attempt, body=body, advanced=advanced)


def with_status(before: Observed, status, **changes) -> Observed:
    """The same, after a status was written."""
    return replace(before, job=replace(before.job, status=status), **changes)
