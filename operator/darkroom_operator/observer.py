"""Gathers what a decision about a job rests on: the memory, and what has to be asked right then."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from darkroom_api.names import FINALIZER
from darkroom_api.times import parse_time
from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.errors import RefusedError
from darkroom_operator.cluster.resources import BATCH_JOBS, CONFIG_MAPS, NAMESPACES
from darkroom_operator.decisions.acceptance import config_maps
from darkroom_operator.decisions.observed import Cleanup, Job, Key, Observed, Pod, Run, RunState
from darkroom_operator.launch.kuberay import Launcher
from darkroom_operator.launch.manifests.cleanup import cleanup_name
from darkroom_operator.memory.reading import is_terminating, owner_uid, read_cleanup, read_warnings
from darkroom_operator.memory.store import Store
from darkroom_operator.settings import Settings

logger = logging.getLogger(__name__)


class Observer:
    """Looks at a job."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        launcher: Launcher,
        settings: Settings,
        now: Callable[[], datetime],
    ) -> None:
        self._cluster, self._store, self._launcher = cluster, store, launcher
        self._settings, self._now = settings, now

    async def observe(self, key: Key) -> Observed | None:
        """All that is known of a job; None when there is none."""
        observed = self._store.observe(key)
        if observed is None:
            return None
        job, spec = observed.job, observed.job.spec
        observed = replace(observed, runs=await self._launcher.runs(job, observed.runs))
        if job.deleting:
            return await self._with_deletion(observed)
        if spec is None or job.status.is_over:
            return observed
        if (attempt := job.status.newest_attempt) is not None:
            run = observed.run(attempt.name)
            starts = run is not None and run.state is RunState.STARTING
            return await self._with_start(observed, run) if run and starts else observed
        wanted = config_maps(spec)
        found = [await self._cluster.get(CONFIG_MAPS, key.namespace, name) for name in wanted]
        missing = tuple(name for name, raw in zip(wanted, found, strict=True) if raw is None)
        return replace(observed, missing=missing)

    async def is_terminating(self, namespace: str) -> bool:
        """Whether a namespace is being deleted.

        False without the right to know: a write that is refused for that reason tells it, too.
        """
        try:
            raw = await self._cluster.get(NAMESPACES, None, namespace)
        except RefusedError as error:
            logger.debug("namespace %s can't be read: %s", namespace, error)
            return False
        return raw is not None and is_terminating(raw)

    async def _with_deletion(self, observed: Observed) -> Observed:
        job = observed.job
        if FINALIZER not in job.finalizers:
            return observed
        if await self.is_terminating(job.key.namespace):
            return replace(observed, terminating=True)
        return replace(observed, cleanups=await self._cleanups(job))

    async def _cleanups(self, job: Job) -> tuple[Cleanup, ...]:
        """The tries to remove a job's model that were made so far."""
        found: list[Cleanup] = []
        for number in range(1, self._settings.cleanup_attempts + 1):
            name = cleanup_name(job, number)
            raw = await self._cluster.get(BATCH_JOBS, job.key.namespace, name)
            if raw is None or owner_uid(raw) != job.uid:
                break
            found.append(read_cleanup(raw))
        return tuple(found)

    async def _with_start(self, observed: Observed, run: Run) -> Observed:
        """With what only matters while a run starts: what it would be now, and what events say of it."""
        job = observed.job
        observed = replace(observed, wanted=self._launcher.rendered(job, run.name))
        begun = parse_time(job.status.attempts[-1].start_time)
        if self._now() < begun + timedelta(seconds=self._settings.trouble_seconds):
            return observed
        pods = [pod for pod in observed.pods if pod.attempt == run.name]
        if run.trouble is not None or any(pod.trouble is not None for pod in pods):
            return observed
        if pods:
            return replace(observed, pods=await self._with_events(observed.pods, run, job))
        names = [name for name in (run.cluster, run.name) if name is not None]
        found = [await self._last_warning(job, name) for name in names]
        trouble = next((text for text in found if text is not None), None)
        runs = [replace(one, trouble=trouble) if one is run else one for one in observed.runs]
        return replace(observed, runs=tuple(runs))

    async def _with_events(self, pods: tuple[Pod, ...], run: Run, job: Job) -> tuple[Pod, ...]:
        """Pods with what events say of those that wait: a volume that can't be mounted is told nowhere else."""
        return tuple(
            [
                replace(pod, trouble=await self._last_warning(job, pod.name))
                if pod.waits and pod.attempt == run.name
                else pod
                for pod in pods
            ]
        )

    async def _last_warning(self, job: Job, name: str) -> str | None:
        """The newest event that warns of an object; None without the right to read events."""
        try:
            events = await self._cluster.warnings(job.key.namespace, name)
        except RefusedError as error:
            logger.debug("%s: its events can't be read: %s", job.key, error)
            return None
        return next(reversed(read_warnings(events)), None)
