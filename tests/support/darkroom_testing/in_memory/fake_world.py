"""One operator process on a fake API: it can be killed at any call, and started again."""

import asyncio
from datetime import timedelta

from darkroom_api.report import ProgressReport, RunPhase
from darkroom_api.times import format_time
from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.outages import Outages
from darkroom_operator.cluster.resources import JOBS, PODS, RAY_JOBS
from darkroom_operator.cluster.rivals import Rivals
from darkroom_operator.health import Health
from darkroom_operator.launch.kuberay import KubeRayLauncher
from darkroom_operator.memory.reading import compact, job_key, read_job
from darkroom_operator.memory.resync import Syncer
from darkroom_operator.memory.store import Store
from darkroom_operator.metrics import Metrics
from darkroom_operator.observer import Observer
from darkroom_operator.reconciler import Reconciler
from darkroom_operator.recorder import Recorder
from darkroom_operator.workqueue import RetryError
from darkroom_testing.in_memory.builders import KEY, MODEL, NOW, SETTINGS, checkpoint
from darkroom_testing.in_memory.fake_api import FakeApi, Killed

STEPS = 800
STEP = 400

RUNNER = asyncio.Runner()


class Rig:
    """The world of one job: the API, KubeRay and the trainer, and an operator that may be replaced."""

    def __init__(self, api=None, settings=None):
        self.api = api or FakeApi()
        self.settings = settings or SETTINGS
        self.now = NOW
        self.step = self.saved = 0
        self.fails = []
        """Messages with which the next attempts fail, at half their steps."""
        self.kills = 0
        self.hold = False
        """The trainer stays at half its steps."""
        self.cleanups_fail = False
        """The Jobs that remove a model fail."""
        self.start_operator()

    def start_operator(self):
        """A new process: it knows nothing."""
        self.store, self.metrics = Store(), Metrics()
        self.cluster = Cluster(self.api, "https://fake", self.metrics)
        clock = lambda: self.now.timestamp()  # noqa: E731
        self.health = Health(self.settings, self.metrics, clock=clock, wall_clock=clock)
        launcher = KubeRayLauncher(
            self.cluster, self.store, self.settings, self.health.kuberay_found
        )
        self.reconciler = Reconciler(
            cluster=self.cluster,
            store=self.store,
            launcher=launcher,
            observer=Observer(
                cluster=self.cluster,
                store=self.store,
                launcher=launcher,
                settings=self.settings,
                now=lambda: self.now,
            ),
            rivals=Rivals(self.cluster, self.settings.identity, clock),
            recorder=Recorder(self.metrics),
            settings=self.settings,
            now=lambda: self.now,
        )
        self.syncer = Syncer(
            cluster=self.cluster,
            store=self.store,
            health=self.health,
            metrics=self.metrics,
            settings=self.settings,
            refusals=Outages(clock),
            changed=lambda key: None,
        )

    def watch(self):
        """What watches would have brought by now; nothing is missed."""
        for resource in (JOBS, RAY_JOBS, PODS):
            listed = set()
            for raw in self.api.all(resource.plural):
                self.store.put(resource, raw)
                listed.add(job_key(raw))
            self.store.prune(resource, listed, self.api.version, None)

    def operate(self):
        """One round of the operator, as often as it asks at once; a new process when it is killed."""
        for _ in range(20):
            self.watch()
            try:
                again = RUNNER.run(self.reconciler.reconcile(KEY))
            except RetryError:
                self.now += timedelta(seconds=1)
                continue
            except Killed:
                self.kills += 1
                self.start_operator()
                continue
            if again is None or again > 0:
                return
        raise AssertionError("the operator turns in circles")

    def until(self, goal, rounds=120):
        """Lets operator and world take turns until something is so."""
        for _ in range(rounds):
            self.operate()
            if goal(self):
                return self
            self.world()
            self.now += timedelta(seconds=15)
        raise AssertionError(f"it did not come to that: {self.word()}")

    # KubeRay, kubelet and the trainer, one move at a time.

    def world(self):
        for ray_job in self.api.all("rayjobs"):
            if "deletionTimestamp" in ray_job["metadata"]:
                self.saved = max(self.saved, self.step)
                self.api.release("rayjobs", ray_job["metadata"]["name"])
            else:
                self.move(ray_job["metadata"]["name"], ray_job.get("status", {}))
        for job in self.api.all("jobs"):
            type_ = "Failed" if self.cleanups_fail else "Complete"
            done = [{"type": type_, "status": "True", "reason": "BackoffLimitExceeded"}]
            self.api.set_status("jobs", job["metadata"]["name"], conditions=done)

    def move(self, name, status):
        state = status.get("jobDeploymentStatus", "")
        if state == "":
            self.step = self.saved
            self.api.set_status("rayjobs", name, jobDeploymentStatus="Initializing")
        elif state == "Initializing":
            self.api.set_status("rayjobs", name, jobDeploymentStatus="Running", jobStatus="RUNNING")
        elif state == "Running" and self.fails and not self.hold and self.step >= STEPS / 2:
            self.api.set_status(
                "rayjobs",
                name,
                jobDeploymentStatus="Failed",
                jobStatus="FAILED",
                reason="AppFailed",
                message=self.fails.pop(0),
            )
        elif state == "Running":
            self.train(name)

    def train(self, name):
        self.step = min(STEPS // 2 if self.hold else STEPS, self.step + STEP)
        self.saved = self.step
        over = self.step == STEPS
        self.tell(name, RunPhase.FINISHED if over else RunPhase.TRAINING, MODEL if over else None)
        if over:
            self.api.set_status(
                "rayjobs", name, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED"
            )

    def tell(self, name, phase, model):
        body = ProgressReport.of(
            phase=phase,
            step=self.step,
            max_steps=STEPS,
            checkpoint=checkpoint(self.saved),
            model=model,
            time=format_time(self.now),
        )
        self.store.report(KEY, name, body, self.now)

    # What there is to see.

    def word(self):
        """The STATUS column."""
        conditions = ((self.api.job() or {}).get("status") or {}).get("conditions", ())
        return next((one["reason"] for one in conditions if one["type"] == "Succeeded"), "")

    def job(self):
        return read_job(compact(self.api.job()))

    def end_state(self):
        """What must be the same however it came about: not times, versions or how much was redone."""
        job = self.api.job()
        if job is None:
            return (), sorted(
                {(kind, name) for kind, _, name in self.api.objects if kind != "events"}
            )
        status = self.job().status
        return (
            tuple((one.type, one.status, one.reason) for one in status.conditions),
            tuple((one.name, one.reason) for one in status.attempts),
            status.retries,
            sorted((kind, name) for kind, _, name in self.api.objects if kind != "events"),
        )


def sync(rig):
    """A full comparison; whether it succeeded."""
    return RUNNER.run(rig.syncer.sync())
