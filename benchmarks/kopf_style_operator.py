"""The life of a job in kopf's usual style, a handler for each change: what ours is compared with.

It makes the same objects and tells of the same states, with kopf's own settings and persistence. What
ours does besides is not there: retries, suspension, Kueue, deadlines, progress, leader election.

    kopf run --namespace NAMESPACE benchmarks/kopf_style_operator.py
"""

import os
from datetime import UTC, datetime
from typing import Any, Final

import kopf

from darkroom_api.names import GROUP, JOB_LABEL, PLURAL, VERSION
from darkroom_operator.cluster.resources import JOBS, resource_of
from darkroom_operator.cluster.session import Login, new_session
from darkroom_operator.launch.manifests.children import children
from darkroom_operator.launch.manifests.rayjob import ray_job
from darkroom_operator.memory.reading import compact, read_job
from darkroom_operator.settings import read_settings

SETTINGS: Final = read_settings(os.environ)
STATES: Final = {"Running": ("Unknown", "Training"), "Complete": ("True", "Completed")}
"""Status and reason of the condition `Succeeded` by KubeRay's `jobDeploymentStatus`."""


@kopf.on.startup()
async def connect(memo: kopf.Memo, **_: Any) -> None:
    """Opens the connections that the handlers use."""
    memo.login = Login()
    memo.session = new_session(memo.login)


@kopf.on.cleanup()
async def disconnect(memo: kopf.Memo, **_: Any) -> None:
    """Closes them."""
    await memo.session.close()


@kopf.on.create(GROUP, VERSION, PLURAL)
async def start(body: kopf.Body, patch: kopf.Patch, memo: kopf.Memo, **_: Any) -> None:
    """Makes what a job needs, and its RayJob."""
    job = read_job(compact(dict(body)))
    if job.spec is None:
        raise kopf.PermanentError(job.problem)
    attempt = f"{job.key.name}-1"
    for manifest in (*children(job, job.spec, SETTINGS), ray_job(job, job.spec, attempt, SETTINGS)):
        path = resource_of(manifest).path(job.key.namespace)
        await send(memo, "POST", path, manifest, "application/json", known=409)
    patch.status["conditions"] = [condition("Unknown", "Starting")]


@kopf.on.field(
    "ray.io", "v1", "rayjobs", field="status.jobDeploymentStatus", labels={JOB_LABEL: kopf.PRESENT}
)
async def follow(new: str, labels: Any, namespace: str, memo: kopf.Memo, **_: Any) -> None:
    """Tells in the job's status how its RayJob is."""
    if new in STATES:
        status = {"conditions": [condition(*STATES[new])]}
        path = JOBS.path(namespace, labels[JOB_LABEL], "status")
        await send(memo, "PATCH", path, {"status": status}, "application/merge-patch+json")


def condition(status: str, reason: str) -> dict[str, str]:
    """The condition that the column STATUS shows."""
    return {
        "type": "Succeeded",
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


async def send(
    memo: kopf.Memo, method: str, path: str, body: dict[str, Any], kind: str, known: int = 0
) -> None:
    """Sends a request; an error of a status that is not known is temporary."""
    url, headers = memo.login.server + path, {"Content-Type": kind}
    async with memo.session.request(method, url, json=body, headers=headers) as response:
        if response.status >= 400 and response.status != known:
            raise kopf.TemporaryError(f"{method} {path}: {await response.text()}", delay=1)
