"""Every Prometheus metric of the operator, declared once."""

import platform
from collections import Counter as Counts
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from darkroom_api.names import METRIC_PREFIX
from darkroom_api.status import Reason

_JOB_SECONDS: Final = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 7200, 14400)
_RECONCILE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

CAUSES: Final = {
    Reason.PREEMPTED: "preemption",
    Reason.RAY_HEAD_DIED: "head",
    Reason.NO_PROGRESS: "hang",
    Reason.HOST_OUT_OF_MEMORY: "oom",
    Reason.DISK_FULL: "disk",
}
"""Words for `cause`; any other is `worker`."""


class Metrics:
    """The metrics, each with its labels; one object for one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge, histogram = self._counter, self._gauge, self._histogram

        self.build_info = gauge("build_info", "Version of the operator.", "version", "python")
        self.leader = gauge("operator_leader", "1 in the process that leads, 0 in the others.")

        self.jobs_created = counter("jobs_created", "Jobs first seen.", "namespace", "strategy")
        self.jobs_finished = counter(
            "jobs_finished", "Jobs that are over.", "namespace", "strategy", "outcome", "reason"
        )
        self.queue_seconds = histogram(
            "job_queue_seconds", "Time that a job waited for quota.", _JOB_SECONDS
        )
        self.duration_seconds = histogram(
            "job_duration_seconds", "Time from a job's start to its end.", _JOB_SECONDS, "outcome"
        )
        self.stage_seconds = histogram(
            "job_stage_seconds", "Time that a job spent in a stage.", _JOB_SECONDS, "stage"
        )
        self.restarts = counter("job_restarts", "Attempts that had to be repeated.", "cause")
        self.progress_ratio = gauge(
            "job_progress_ratio", "Share of the steps that is done.", "namespace", "job"
        )
        self.last_step_timestamp = gauge(
            "job_last_step_timestamp_seconds", "When a job last moved.", "namespace", "job"
        )
        self.eta_seconds = gauge(
            "job_eta_seconds", "Expected time until the last step.", "namespace", "job"
        )

        self.reconciles = counter(
            "reconcile", "Decisions carried out.", "kind", "handler", "outcome"
        )
        self.reconcile_seconds = histogram(
            "reconcile_duration_seconds",
            "Time to decide about a job and to act.",
            _RECONCILE_SECONDS,
            "kind",
            "handler",
        )
        self.reconciles_in_flight = gauge("reconcile_in_flight", "Jobs being worked on.", "kind")

        self.api_requests = counter(
            "api_requests", "Requests to the Kubernetes API.", "verb", "resource", "code"
        )
        self.api_seconds = histogram(
            "api_request_duration_seconds",
            "Time of a request to the Kubernetes API.",
            _RECONCILE_SECONDS,
            "verb",
            "resource",
        )
        self.api_conflicts = counter("api_conflicts", "Writes that met a newer object.", "resource")
        self.watch_event = gauge(
            "watch_last_event_timestamp_seconds", "When a watch last brought something.", "resource"
        )
        self.watch_restarts = counter(
            "watch_restarts", "Streams that were opened anew.", "resource", "reason"
        )
        self.missed = counter(
            "watch_missed", "Changes that only a full comparison found.", "resource"
        )
        self.events_emitted = counter("events_emitted", "Events written.", "type", "reason")
        self.consent_rejections = counter(
            "consent_rejections", "Jobs refused for want of a valid consent."
        )
        self.progress_reports = counter("progress_reports", "Reports of attempts.", "code")

    def count_jobs(self, count: Callable[[], Counts[tuple[str, str]]]) -> None:
        """Lets `darkroom_jobs` be counted when somebody asks."""
        self.registry.register(_JobCounter(count))

    def say_version(self, version: str) -> None:
        """Sets the metric that tells the version."""
        self.build_info.labels(version=version, python=platform.python_version()).set(1)

    def forget_job(self, namespace: str, name: str) -> None:
        """Ends the series of a job that is over or gone."""
        for gauge in (self.progress_ratio, self.last_step_timestamp, self.eta_seconds):
            gauge.remove(namespace, name)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(METRIC_PREFIX + name, help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(METRIC_PREFIX + name, help_, labels, registry=self.registry)

    def _histogram(
        self, name: str, help_: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            METRIC_PREFIX + name, help_, labels, buckets=buckets, registry=self.registry
        )


class _JobCounter(Collector):
    """`darkroom_jobs`: read from the memory of the operator at each scrape, so it can't drift."""

    def __init__(self, count: Callable[[], Counts[tuple[str, str]]]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        """The number of jobs by namespace and STATUS word."""
        family = GaugeMetricFamily(
            f"{METRIC_PREFIX}jobs", "Jobs by their STATUS word.", labels=("namespace", "phase")
        )
        for labels, number in sorted(self._count().items()):
            family.add_metric(labels, number)
        yield family
