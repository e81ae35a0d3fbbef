"""Whether this process is of use: what `/healthz` and `/readyz` say."""

from collections.abc import Callable

from darkroom_operator.cluster.resources import RAY_JOBS, watched
from darkroom_operator.metrics import Metrics
from darkroom_operator.settings import Settings


class Health:
    """Listens to the watches and to the queue.

    A watch is heard when its stream was opened or brought something; kopf opens each anew every few
    minutes. One that stays silent is dead, whatever its connection looks like, and a restart cures it.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        stuck_seconds: Callable[[], float] = lambda: 0.0,
        cut_off: Callable[[], bool] = lambda: False,
    ) -> None:
        """`clock` is monotonic.

        `stuck_seconds` says how long the queue's oldest work takes, `cut_off` whether the apiserver is away.
        """
        self._settings, self._metrics, self._cut_off = settings, metrics, cut_off
        self._clock, self._wall_clock, self._stuck_seconds = clock, wall_clock, stuck_seconds
        self._watched = {resource.plural for resource in watched(settings.launcher)}
        # RayJobs count from when KubeRay is known to be there.
        self._heard = dict.fromkeys(self._watched - {RAY_JOBS.plural}, clock())
        self.synced = False

    def renew(self) -> None:
        """Gives all watches time to be heard again: while the apiserver was away none could be."""
        self._heard = dict.fromkeys(self._heard, self._clock())

    def heard(self, plural: str) -> None:
        """Notes that the watch of a resource lives."""
        self._metrics.watch_event.labels(plural).set(self._wall_clock())
        if plural in self._watched:
            self._heard[plural] = self._clock()

    def opened(self, plural: str) -> None:
        """Notes that the stream of a watch was opened anew."""
        self._metrics.watch_restarts.labels(plural, "opened").inc()
        self.heard(plural)

    def kuberay_found(self) -> None:
        """From now on RayJobs have to be heard: KubeRay was installed after this process began."""
        self._heard.setdefault(RAY_JOBS.plural, self._clock())

    def illness(self) -> str | None:
        """Why this process should be restarted; None while it is well."""
        limit = self._settings.watch_silence_seconds
        for plural, time in sorted(self._heard.items()):
            if self._clock() - time > limit and not self._cut_off():  # a restart cures no outage
                return f"the watch of {plural} has been silent for more than {limit} s"
        if self._stuck_seconds() > self._settings.stuck_seconds:
            return f"a job has been worked on for more than {self._settings.stuck_seconds} s"
        return None
