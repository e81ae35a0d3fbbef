"""Observe, decide, act: one pass over one job. The table in `errors` says how failures are handled."""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from darkroom_api.names import API_VERSION, GROUP, KIND
from darkroom_api.status import PersonalizationJobStatus
from darkroom_api.times import format_micro_time
from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.election import RENEW_SECONDS
from darkroom_operator.cluster.errors import (
    ClusterError,
    ConflictError,
    FencedError,
    GoneError,
    NamespaceTerminatingError,
    NameTakenError,
    NotInstalledError,
    RefusedError,
    TooManyRequestsError,
)
from darkroom_operator.cluster.resources import (
    EVENTS,
    JOBS,
    RAY_JOBS,
)
from darkroom_operator.cluster.rivals import LOOK_SECONDS, Rivals
from darkroom_operator.decisions.actions import (
    Action,
    Decision,
    DeleteJob,
    Event,
    Launch,
    RemoveModel,
    SetFinalizer,
    Stop,
)
from darkroom_operator.decisions.decide import decide
from darkroom_operator.decisions.observed import (
    Job,
    Key,
    Observed,
    Refusal,
    RefusalKind,
)
from darkroom_operator.launch.kuberay import Launcher
from darkroom_operator.launch.manifests.cleanup import cleanup_job
from darkroom_operator.memory.store import Store
from darkroom_operator.observer import Observer
from darkroom_operator.recorder import Recorder
from darkroom_operator.settings import Settings
from darkroom_operator.workqueue import RetryError

logger = logging.getLogger(__name__)

NOTE_LENGTH: Final = 1000
"""Most characters of an event's note; Kubernetes allows 1 kB."""


class Reconciler:
    """Brings one job after another to where it should be."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        launcher: Launcher,
        observer: Observer,
        rivals: Rivals,
        recorder: Recorder,
        settings: Settings,
        now: Callable[[], datetime],
    ) -> None:
        self._cluster, self._store, self._launcher = cluster, store, launcher
        self._observer, self._rivals = observer, rivals
        self._recorder, self._settings, self._now = recorder, settings, now

    async def reconcile(self, key: Key) -> float | None:
        """Looks at a job and does what is to be done; answers when to look again, in seconds.

        Raises RetryError when something did not work that may work later.
        """
        begun = time.monotonic()
        outcome = "error"
        try:
            again = await self._round(key)
            outcome = "ok"
        except FencedError:
            # One late renewal does not end the lead, so nothing else would bring the job back. When the
            # lead is lost, the queue keeps it without working on it.
            outcome = "fenced"
            return RENEW_SECONDS
        except TooManyRequestsError as error:
            outcome = "throttled"
            return error.retry_after_seconds
        except (ConflictError, GoneError) as error:
            outcome = "conflict"
            await self._refresh(key)
            raise RetryError(str(error)) from error
        except ClusterError as error:
            raise RetryError(str(error)) from error
        else:
            return again
        finally:
            self._recorder.reconciled(outcome, time.monotonic() - begun)

    async def _round(self, key: Key) -> float | None:
        observed = await self._observer.observe(key)
        if observed is None:
            self._recorder.gone(key)
            return None
        decision = decide(observed, self._now(), self._settings)
        if decision.is_idle:
            return self._again(observed, decision)
        others = self._store.operators(key.namespace)
        if await self._rivals.owner(key.namespace, observed.job.status.operator, others):
            return LOOK_SECONDS
        if _opens_another(observed.job.status, decision) and await self._observer.is_terminating(
            key.namespace
        ):
            decision = decide(replace(observed, terminating=True), self._now(), self._settings)
        if _launches_unwritten(decision) and await self._is_old(observed.job):
            return 0.0
        job = await self._write_status(observed, decision)
        for action in decision.actions:
            if not await self._act(job, action):
                return 0.0
        for event in decision.events:
            await self._post(job, event)
        return self._again(observed, decision)

    async def _write_status(self, observed: Observed, decision: Decision) -> Job:
        """Writes the status, if there is something to say; the job as it is after that."""
        job = observed.job
        if decision.status is None:
            return job
        raw = await self._cluster.apply_status(job, decision.status)
        self._store.put(JOBS, raw)
        self._store.wrote(job.key, self._now())
        self._recorder.changed(job, decision.status, self._now())
        return replace(
            job, status=decision.status, resource_version=raw["metadata"]["resourceVersion"]
        )

    async def _is_old(self, job: Job) -> bool:
        """Whether a job is not as it was looked at, or gone; what is there is taken in.

        A write of its status would be refused then. A launch would not be: it would make a run for a
        job that is gone.
        """
        raw = await self._cluster.get(JOBS, job.key.namespace, job.key.name)
        if raw is None:
            self._store.forget(JOBS, job.key)
            return True
        self._store.put(JOBS, raw)
        return bool(raw["metadata"]["resourceVersion"] != job.resource_version)

    async def _act(self, job: Job, action: Action) -> bool:
        """Carries an action out; False when the answer calls for a new decision at once.

        A no is remembered: the next decision tells the user.
        """
        try:
            await self._carry_out(job, action)
        except (NotInstalledError, RefusedError) as error:
            logger.warning("%s: %s: %s", job.key, action, error)
            kind = next(kind for type_, kind in _REFUSALS if isinstance(error, type_))
            message = str(error)[:NOTE_LENGTH]
            refusal = Refusal(kind=kind, action=action, message=message, time=self._now())
            self._store.refuse(job.key, refusal)
            return False
        self._store.accept(job.key, action)
        return True

    async def _carry_out(self, job: Job, action: Action) -> None:
        match action:
            case Launch(attempt=attempt):
                assert job.spec is not None
                await self._launcher.launch(job, job.spec, attempt)
            case Stop():
                await self._launcher.stop(job, action)
            case SetFinalizer(present=present):
                self._store.put(JOBS, await self._cluster.set_finalizer(job, present=present))
            case RemoveModel(number=number):
                assert job.spec is not None
                manifest = cleanup_job(job, job.spec, number, self._settings)
                await self._cluster.make(manifest, update=False)
            case DeleteJob():
                await self._cluster.delete(JOBS, job.key.namespace, job.key.name, job.uid)

    async def _refresh(self, key: Key) -> None:
        """Reads a job and its runs anew, so that the next decision rests on what is there."""
        observed = self._store.observe(key)
        known = [(JOBS, key.name)]
        known += [(RAY_JOBS, run.name) for run in (observed.runs if observed is not None else ())]
        for resource, name in known:
            try:
                raw = await self._cluster.get(resource, key.namespace, name)
            except ClusterError as error:
                raise RetryError(str(error)) from error
            if raw is None:
                self._store.forget(resource, Key(key.namespace, name))
            else:
                self._store.put(resource, raw)

    async def _post(self, job: Job, event: Event) -> None:
        """Tells of something once: the same event has the same name, and is there already."""
        try:
            await self._cluster.create(EVENTS, job.key.namespace, self._event(job, event))
        except ConflictError:
            return
        except RefusedError as error:  # the status says the same
            logger.warning("%s: no event %s: %s", job.key, event.reason, error)
            return
        self._recorder.told(event)

    def _event(self, job: Job, event: Event) -> dict[str, Any]:
        what = f"{job.uid}/{event.reason}/{event.message}"
        digest = hashlib.sha256(what.encode()).hexdigest()[:16]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{job.key.name}.{digest}", "namespace": job.key.namespace},
            "eventTime": format_micro_time(self._now()),
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": self._settings.pod_name,
            "action": "Reconcile",
            "type": event.type.value,
            "reason": event.reason.value,
            "note": event.message[:NOTE_LENGTH],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": job.key.namespace,
                "name": job.key.name,
                "uid": job.uid,
            },
        }

    def _again(self, observed: Observed, decision: Decision) -> float | None:
        times = []
        if decision.again_after is not None:
            times.append(decision.again_after.total_seconds())
        over = (decision.status or observed.job.status).is_over
        if self._launcher.poll_seconds is not None and not over:
            times.append(self._launcher.poll_seconds)
        return min(times, default=None)


_REFUSALS: Final = (
    (NotInstalledError, RefusalKind.NOT_INSTALLED),
    (NamespaceTerminatingError, RefusalKind.TERMINATING),
    (NameTakenError, RefusalKind.NAME_TAKEN),
    (RefusedError, RefusalKind.REFUSED),
)
"""What to remember of a no, the narrower kinds first."""


def _opens_another(status: PersonalizationJobStatus, decision: Decision) -> bool:
    """Whether a further attempt is to be opened."""
    before, after = status.newest_attempt, (decision.status or status).newest_attempt
    return before is not None and after is not None and before.name != after.name


def _launches_unwritten(decision: Decision) -> bool:
    """Whether a run is to be started without a status that is written before."""
    return decision.status is None and any(isinstance(one, Launch) for one in decision.actions)
