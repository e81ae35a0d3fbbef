"""What a cluster does to a job: to one of its pods, to its node, to its volume; and when.

Each means is a context: it has struck when its body begins, and what is left of it, such as a taint, is
taken back at its end.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom_testing.cluster.cgroups import hierarchies
from darkroom_testing.cluster.cluster import Cluster, wait_for
from darkroom_testing.kuberay.cluster_job import ClusterJob
from darkroom_testing.kuberay.volume import CLAIM, RunFolder, Volume
from darkroom_trainer.progress.snapshot import Phase as Doing

EVERY_STEPS = 15
"""`checkpoint.everySteps` of the job."""

Means = Callable[[ClusterJob, str], AbstractContextManager[None]]
"""Strikes the pod of a role, or what it stands on."""


def _its_pods_are_gone(job: ClusterJob, attempt: str) -> bool:
    return not job.pods(f"darkroom.dev/attempt={attempt}")


@dataclass(frozen=True)
class Disturbance:
    """A means, and what is promised of a job that meets it."""

    name: str
    strike: Means

    roles: tuple[str, ...] = ("worker", "head")
    """Whose pod is struck."""

    has_struck: Callable[[ClusterJob, str], bool] = _its_pods_are_gone
    """Whether it has had its effect on an attempt, so that what is left of it can be taken back."""

    graceful: bool = False
    """Whether the pods are told before: then no step is done again but the one at work."""

    reasons: frozenset[str] = frozenset()
    """What the attempts' ends may be called; none: no attempt ends by it."""

    words: str = ""
    """What the status or an event says of such an end, as a pattern: the cluster's own words."""


@dataclass(frozen=True)
class Phase:
    """A part of a run, and how it is recognised in the volume."""

    name: str
    seen: Callable[[RunFolder], bool]


def _makes_class_images(run: RunFolder) -> bool:
    progress = run.progress
    return (
        progress is not None
        and progress.phase is Doing.CLASS_IMAGES
        and len(run.class_images()) > 0
    )


def _trains(run: RunFolder) -> bool:
    """Between two checkpoints."""
    progress = run.progress
    return (
        progress is not None
        and progress.phase is Doing.TRAINING
        and progress.step > EVERY_STEPS
        and progress.step % EVERY_STEPS > 2
        and not run.writes_checkpoint()
    )


def _writes_checkpoint(run: RunFolder) -> bool:
    """One after the first: there is something to lose."""
    if not run.writes_checkpoint():
        return False
    progress = run.progress
    return progress is not None and progress.step > EVERY_STEPS


def _exports(run: RunFolder) -> bool:
    progress = run.progress
    return progress is not None and progress.phase is Doing.EXPORTING


PHASES = (
    Phase("class images", _makes_class_images),
    Phase("training", _trains),
    Phase("checkpoint", _writes_checkpoint),
    Phase("export", _exports),
)


# Pods, by the API.


@contextmanager
def _delete(job: ClusterJob, role: str) -> Iterator[None]:
    job.cluster.kubectl("delete", "pod", job.pod(role), job.here, "--wait=false")
    yield


@contextmanager
def _force_delete(job: ClusterJob, role: str) -> Iterator[None]:
    now = ("--wait=false", "--force", "--grace-period=0")
    job.cluster.kubectl("delete", "pod", job.pod(role), job.here, *now)
    yield


@contextmanager
def _evict(job: ClusterJob, role: str) -> Iterator[None]:
    job.cluster.evict(job.pod(role), job.namespace)
    yield


@contextmanager
def _drain(job: ClusterJob, role: str) -> Iterator[None]:
    """As an administrator drains, but for this pod alone: the operator stays."""
    pod = job.pod(role)
    selector = f"darkroom.dev/job={job.name},darkroom.dev/role={role}"
    with ThreadPoolExecutor() as administrator:
        drained = administrator.submit(job.cluster.drain, selector)
        try:
            wait_for(lambda: _is_going(job, pod), "eviction by the drain")
            yield
            drained.result()
        finally:
            job.cluster.uncordon()


@contextmanager
def _taint(job: ClusterJob, role: str) -> Iterator[None]:
    """Every pod of the node goes that does not tolerate it: also the operator's."""
    pod = job.pod("worker")
    job.cluster.taint("NoExecute")
    try:
        wait_for(lambda: _is_going(job, pod), "eviction by the taint")
        yield
    finally:
        job.cluster.untaint()


def _is_going(job: ClusterJob, pod: str) -> bool:
    found = job.cluster.get("pod", pod, job.here)
    return found is None or "deletionTimestamp" in found["metadata"]


# Processes, and what they stand on.


@contextmanager
def _kill_container(job: ClusterJob, role: str) -> Iterator[None]:
    job.cluster.kill_container(job.pod(role), job.namespace, f"ray-{role}")
    yield


@contextmanager
def _starve(job: ClusterJob, role: str) -> Iterator[None]:
    job.cluster.starve(job.pod(role), job.namespace, f"ray-{role}")
    yield


@contextmanager
def _kill_shim(job: ClusterJob, role: str) -> Iterator[None]:
    job.cluster.kill_shim(job.pod(role), job.namespace)
    yield


@contextmanager
def _restart_kubelet(job: ClusterJob, role: str) -> Iterator[None]:
    job.cluster.restart_kubelet()
    yield


@contextmanager
def _restart_containerd(job: ClusterJob, role: str) -> Iterator[None]:
    job.cluster.restart_containerd()
    yield


@contextmanager
def _fill_volume(job: ClusterJob, role: str) -> Iterator[None]:
    job.cluster.fill_volume(CLAIM, job.namespace)
    try:
        yield
    finally:
        job.cluster.free_volume(CLAIM, job.namespace)


# What is seen of it.


def _nothing_happens(job: ClusterJob, attempt: str) -> bool:
    return True


def _no_head_runs(job: ClusterJob, attempt: str) -> bool:
    """KubeRay makes new pods of the same attempt at once, which find no node."""
    heads = job.pods("darkroom.dev/role=head")
    return not any(pod["status"]["phase"] == "Running" for pod in heads)


def _is_told_of_the_disk(job: ClusterJob, attempt: str) -> bool:
    return re.search(FULL, job.words()) is not None


SAVED = r"saved at step \d+"
"""What a run that was told to go says itself, where the cluster has no words for it."""

EVICTED = "EvictionByEvictionAPI"
DIED = r"exit code \d+|died|killed|saved at step \d+"
FULL = r"DiskFull|[Dd]isk .*full|No space left"

_WORKER, _HEAD = frozenset({"WorkerDied"}), frozenset({"RayHeadDied"})
_PREEMPTED = frozenset({"Preempted"})
_NODE = ("node",)

DISTURBANCES = (
    Disturbance("delete", _delete, reasons=_PREEMPTED, words=SAVED, graceful=True),
    Disturbance("forced delete", _force_delete, reasons=_WORKER | _HEAD | _PREEMPTED, words=DIED),
    Disturbance("eviction", _evict, reasons=_PREEMPTED, words=EVICTED, graceful=True),
    Disturbance(
        "drain",
        _drain,
        has_struck=_no_head_runs,
        reasons=_PREEMPTED,
        words=EVICTED,
        graceful=True,
    ),
    Disturbance(
        "taint",
        _taint,
        _NODE,
        reasons=_PREEMPTED | {"NodeLost"},
        has_struck=_no_head_runs,
        words="DeletionByTaintManager",
        graceful=True,
    ),
    # Without OOMKilled where the kernel ends one process alone (cgroups of version 1): the driver, on the head.
    Disturbance(
        "memory limit",
        _starve,
        reasons=_HEAD | {"HostOutOfMemory"},
        words="OOMKilled|exit code 137",
    ),
    Disturbance("kill", _kill_container, reasons=_WORKER | _HEAD, words=DIED),
    Disturbance("shim's kill", _kill_shim, reasons=_WORKER | _HEAD, words=DIED),
    Disturbance("kubelet's restart", _restart_kubelet, _NODE, has_struck=_nothing_happens),
    Disturbance("containerd's restart", _restart_containerd, _NODE, has_struck=_nothing_happens),
    Disturbance(
        "full disk",
        _fill_volume,
        _NODE,
        has_struck=_is_told_of_the_disk,
        reasons=frozenset({"DiskFull", "CheckpointFailed"}),
        words=FULL,
    ),
)


# A moment, held.


class Hold:
    """A worker's processes, stopped at a moment, so that what strikes then strikes there."""

    def __init__(self, cluster: Cluster, worker: dict[str, Any]) -> None:
        self._group = _group_of(cluster, worker["metadata"]["uid"])

    def catch(self, moment: Callable[[], bool]) -> bool:
        """Stops them if the moment is now; lets them go again if it passed meanwhile."""
        if not moment():
            return False
        self._send(signal.SIGSTOP)
        wait_for(self._stand_still, "stop of the worker's processes", 10, 0.001)
        if not moment():
            self.release()
            return False
        return True

    def release(self) -> None:
        """Lets them go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stand_still(self) -> bool:
        """Whether none runs: one stops when it next enters the kernel."""
        return all(_state(pid) in STOPPED for pid in self._processes())

    def _processes(self) -> Iterator[int]:
        for file in self._group.rglob("cgroup.procs"):
            with suppress(OSError):  # a group that is gone
                yield from map(int, file.read_text().split())


STOPPED = ("T", "Z", "")
"""States of a process that does nothing: stopped, ended, gone."""


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


@contextmanager
def held(job: ClusterJob, volume: Volume, phase: Phase) -> Iterator[Hold]:
    """Waits until the run is in a phase and holds it there, at most until the end of the context."""
    run = volume.run(job.name)
    wait_for(lambda: run.progress, "start of the run", 300)
    hold = Hold(job.cluster, wait_for(lambda: _worker_at_work(job), "worker", 300))
    wait_for(lambda: hold.catch(lambda: phase.seen(run)), phase.name, 300, 0.002)
    try:
        yield hold
    finally:
        hold.release()


def _worker_at_work(job: ClusterJob) -> dict[str, Any] | None:
    """The worker of the newest attempt; one that is on its way out is none."""
    if not job.attempts or "endTime" in (newest := job.attempts[-1]):
        return None
    labels = (f"darkroom.dev/attempt={newest['name']}", "darkroom.dev/role=worker")
    running = [
        pod
        for pod in job.pods(*labels)
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    ]
    return next(iter(running), None)


def _group_of(cluster: Cluster, uid: str) -> Path:
    """The control group of a pod; on version 1 there is one in each hierarchy, of which one is enough."""
    home: str = cluster.local.meta()["cgroup"].strip("/")
    found = (group for root in hierarchies() for group in (root / home).rglob(f"*{uid}"))
    return next(found)
