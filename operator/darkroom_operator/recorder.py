"""Turns what happens to jobs into metrics, so that no other module needs their names."""

from dataclasses import dataclass
from datetime import datetime

from darkroom_api.status import ConditionStatus, PersonalizationJobStatus, Reason
from darkroom_api.times import parse_time, seconds_between
from darkroom_operator.decisions.actions import Event
from darkroom_operator.decisions.observed import Job, Key
from darkroom_operator.metrics import CAUSES, Metrics

_STAGES = {
    Reason.STARTING: "provision",
    Reason.PREPARING: "class_images",
    Reason.TRAINING: "train",
    Reason.PUBLISHING: "publish",
}
"""Stages of a job by the STATUS word that it has meanwhile."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """What a job that is not over does."""

    word: Reason
    since: datetime
    method: str


class Recorder:
    """Counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._stages: dict[Key, _Stage] = {}

    def reconciled(self, outcome: str, seconds: float) -> None:
        """One round was made."""
        self._metrics.reconciles.labels("PersonalizationJob", "decide", outcome).inc()
        self._metrics.reconcile_seconds.labels("PersonalizationJob", "decide").observe(seconds)

    def told(self, event: Event) -> None:
        """An event was written."""
        self._metrics.events_emitted.labels(event.type.value, event.reason.value).inc()

    def gone(self, key: Key) -> None:
        """A job does not exist any more; one that was not over is cancelled."""
        stage = self._stages.pop(key, None)
        self._metrics.forget_job(key.namespace, key.name)
        if stage is not None:
            labels = (key.namespace, stage.method, "cancelled", stage.word.value)
            self._metrics.jobs_finished.labels(*labels).inc()

    def changed(self, job: Job, status: PersonalizationJobStatus, now: datetime) -> None:
        """A job's status was written."""
        method = str(job.spec.training.method) if job.spec is not None else "unknown"
        if not job.status.conditions:
            self._metrics.jobs_created.labels(job.key.namespace, method).inc()
        self._stage(job.key, _Stage(status.word, now, method))
        self._restarts(job.status, status)
        self._progress(job.key, status)
        if status.is_over and not job.status.is_over:
            self._finished(job.key, method, status, now)

    def _stage(self, key: Key, stage: _Stage) -> None:
        before = self._stages.get(key)
        if before is not None and before.word is stage.word:
            return
        if before is not None and before.word in _STAGES:
            seconds = (stage.since - before.since).total_seconds()
            self._metrics.stage_seconds.labels(_STAGES[before.word]).observe(seconds)
        self._stages[key] = stage

    def _restarts(self, old: PersonalizationJobStatus, new: PersonalizationJobStatus) -> None:
        if new.retries == old.retries or not new.attempts:
            return
        reason = new.attempts[-1].reason
        if reason is not None:
            self._metrics.restarts.labels(CAUSES.get(reason, "worker")).inc()

    def _progress(self, key: Key, status: PersonalizationJobStatus) -> None:
        if (progress := status.progress) is None:
            return
        labels = (key.namespace, key.name)
        self._metrics.progress_ratio.labels(*labels).set(progress.percent / 100)
        moved = parse_time(progress.last_updated_time).timestamp()
        self._metrics.last_step_timestamp.labels(*labels).set(moved)
        if progress.eta_seconds is None:
            self._metrics.eta_seconds.remove(*labels)
        else:
            self._metrics.eta_seconds.labels(*labels).set(progress.eta_seconds)

    def _finished(
        self, key: Key, method: str, status: PersonalizationJobStatus, now: datetime
    ) -> None:
        summary = status.summary
        assert summary is not None
        outcome = "succeeded" if summary.status is ConditionStatus.TRUE else "failed"
        self._metrics.jobs_finished.labels(
            key.namespace, method, outcome, summary.reason.value
        ).inc()
        if status.start_time is not None:
            seconds = seconds_between(status.start_time, now)
            self._metrics.duration_seconds.labels(outcome).observe(seconds)
        if status.usage is not None:
            self._metrics.queue_seconds.observe(status.usage.queued_seconds)
        if summary.reason in (Reason.CONSENT_EXPIRED, Reason.CONSENT_MISSING):
            self._metrics.consent_rejections.inc()
        del self._stages[key]
        self._metrics.forget_job(key.namespace, key.name)
