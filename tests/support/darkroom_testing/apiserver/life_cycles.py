"""The life cycles of jobs, as generators for `stage.play`, and how they ended."""

import re
from collections.abc import Callable
from typing import Any, Final

from darkroom_testing.apiserver.life_runner import Actor, Life, Stage, orphaned, owner_of
from darkroom_testing.cluster.cluster import Document

NCCL: Final = {"reason": "AppFailed", "message": "NCCL error: unhandled system error"}
BAD_JOB: Final = {
    "reason": "AppFailed",
    "message": "darkroom: TooFewPhotos: at least 3 photos are needed",
}
DIGEST: Final = "a" * 64
TIME: Final = "2026-01-01T00:00:00Z"
CHECKPOINT: Final = {"step": 50, "uri": "pvc://models/step-50", "digest": DIGEST, "time": TIME}
MODEL: Final = {"uri": "pvc://models/a/b", "digest": DIGEST, "sizeBytes": 1000}


def succeed(actor: Actor) -> Life:
    photos = {"metadata": {"name": f"{actor.name}-photos"}, "data": {"a": "b"}}
    path = f"/api/v1/namespaces/{actor.stage.namespace}/configmaps"
    actor.stage.admin.call("POST", path, photos)
    images = {"configMap": f"{actor.name}-photos"}
    subject = {"kind": "Animal", "identifier": "sks", "classNoun": "dog", "images": images}
    actor.create(subject=subject)
    yield from run(actor, 1)


def run(actor: Actor, attempt: int) -> Life:
    """An attempt to its success."""
    yield actor.ray_job(attempt)
    actor.says(attempt, "Running", "RUNNING")
    actor.says(attempt, "Complete", "SUCCEEDED")
    yield actor.word("Completed")


def report_and_publish(actor: Actor) -> Life:
    actor.create()
    yield actor.ray_job(1)
    actor.make_pod(1)
    actor.says(1, "Running", "RUNNING")
    trains = actor.word("Training")
    yield actor.reports(1, trains, phase="Training", step=50, checkpoint=CHECKPOINT)
    yield actor.reports(1, phase="Finished", step=150, checkpoint=CHECKPOINT, model=MODEL)
    actor.remove_pod(1)
    actor.says(1, "Complete", "SUCCEEDED")
    yield actor.word("Completed")


def fail_and_retry(actor: Actor) -> Life:
    actor.create()
    yield actor.ray_job(1)
    actor.says(1, "Running", "RUNNING")
    actor.says(1, "Failed", "FAILED", **NCCL)
    yield from run(actor, 2)


def fail_for_good(actor: Actor) -> Life:
    actor.create()
    yield actor.ray_job(1)
    actor.says(1, "Running", "RUNNING")
    actor.says(1, "Failed", "FAILED", **BAD_JOB)
    yield actor.word("TooFewPhotos")


def suspend_and_resume(actor: Actor) -> Life:
    actor.create()
    yield actor.ray_job(1)
    actor.says(1, "Running", "RUNNING")
    actor.patch(suspend=True)
    yield actor.word("Suspended")
    actor.patch(suspend=False)
    yield from run(actor, 2)


def delete_in_the_midst(actor: Actor) -> Life:
    actor.create()
    yield actor.ray_job(1)
    actor.says(1, "Running", "RUNNING")
    actor.delete()
    yield actor.gone


def delete_with_its_model(actor: Actor) -> Life:
    actor.create(output={"uri": "pvc://models", "deletionPolicy": "Delete"})
    yield from run(actor, 1)
    actor.delete()
    yield actor.cleaned
    yield actor.gone


def live_its_time(actor: Actor) -> Life:
    actor.create(runPolicy={"ttlSecondsAfterFinished": 1})
    yield actor.ray_job(1)
    actor.says(1, "Complete", "SUCCEEDED")
    yield actor.gone


def be_upgraded(actor: Actor) -> Life:
    """The run of the old version is left alone; the new version starts the next one."""
    actor.create()
    yield actor.ray_job(1)
    actor.says(1, "Running", "RUNNING")
    before, version = actor.image(1), actor.stage.version
    actor.at_the_upgrade = True
    yield lambda: actor.stage.version > version
    assert actor.image(1) == before
    actor.says(1, "Failed", "FAILED", **NCCL)
    yield from run(actor, 2)
    assert actor.image(2) == f"example.org/trainer:{actor.stage.version}" != before


LIVES: Final[tuple[Callable[[Actor], Life], ...]] = (
    succeed,
    report_and_publish,
    fail_and_retry,
    fail_for_good,
    suspend_and_resume,
    delete_in_the_midst,
    delete_with_its_model,
    live_its_time,
    be_upgraded,
)


def ends(stage: Stage) -> dict[str, Any]:
    """What is left of each job, without what may differ: times, uids, versions, names, progress."""
    jobs = {one["metadata"]["name"]: one for one in stage.admin.jobs(stage.namespace)}
    left: dict[str, list[Any]] = {}
    for one in stage.products():
        name = owner_of(one["metadata"]["name"])
        assert not orphaned(one, jobs), one["metadata"]
        left.setdefault(name, []).append(_named(one["kind"], one["metadata"]["name"]))
    return {
        name: (_status(jobs.get(name)), sorted(left.get(name, ())))
        for name in {*jobs, *left, *stage.plan.calls}
    }


def _status(job: Document | None) -> Any:
    if job is None:
        return None
    status = job["status"]
    return {
        "conditions": sorted(
            (one["type"], one["status"], one["reason"]) for one in status["conditions"]
        ),
        "attempts": [
            (_named("", one["name"]), one["reason"], one["startStep"]) for one in status["attempts"]
        ],
        "retries": status.get("retries"),
        "checkpoint": status.get("checkpoint"),
        "model": status.get("model"),
        "finalizers": job["metadata"].get("finalizers"),
        "seen": status["observedGeneration"] == job["metadata"]["generation"],
    }


def _named(kind: str, name: str) -> str:
    return f"{kind} {re.sub(r'^[a-z0-9]+', 'job', name)}"
