"""Starts and stops attempts: the protocol of a launcher, and the one for KubeRay."""

from collections.abc import Callable
from typing import Final, Protocol

from darkroom_api.job import PersonalizationJobSpec
from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.resources import RAY_JOBS
from darkroom_operator.decisions.actions import Stop
from darkroom_operator.decisions.observed import Job, Key, Run
from darkroom_operator.launch.manifests.children import children
from darkroom_operator.launch.manifests.rayjob import ray_job, rendered_digest
from darkroom_operator.memory.store import Store
from darkroom_operator.settings import Settings

RENDERED_KEPT: Final = 4096
"""Digests that are remembered, of the jobs that started last."""


class Launcher(Protocol):
    """Starts, stops and looks after the runs of a job. Each call can be repeated."""

    poll_seconds: float | None
    """How often running jobs are to be asked after; None when news comes by itself."""

    async def launch(self, job: Job, spec: PersonalizationJobSpec, attempt: str) -> None:
        """Starts an attempt; nothing changes if it is there."""

    async def stop(self, job: Job, stop: Stop) -> None:
        """Ends a run, with time to save."""

    def rendered(self, job: Job, attempt: str) -> str | None:
        """Digest of what an attempt would be made from now; None where nothing is rendered."""

    async def runs(self, job: Job, seen: tuple[Run, ...]) -> tuple[Run, ...]:
        """The runs of a job; `seen` are those that the watches brought."""


class KubeRayLauncher:
    """One RayJob, and so one Ray cluster, for each attempt."""

    poll_seconds: float | None = None

    def __init__(
        self, cluster: Cluster, store: Store, settings: Settings, found: Callable[[], None]
    ) -> None:
        """`found` is called when KubeRay's API has answered: from then on its watch must live."""
        self._cluster, self._store, self._settings = cluster, store, settings
        self._found = found
        self._rendered: dict[Key, tuple[str, str, str]] = {}

    async def launch(self, job: Job, spec: PersonalizationJobSpec, attempt: str) -> None:
        """Makes the job's file, policies, and last the RayJob: it needs the others.

        A RayJob that is there is not written again: Kueue writes into it. What somebody else made under
        one of these names is left alone.
        """
        for manifest in children(job, spec, self._settings):
            await self._cluster.make(manifest, update=True)
        manifest = ray_job(job, spec, attempt, self._settings)
        made = await self._cluster.make(manifest, update=False)
        self._store.put(RAY_JOBS, made)
        self._found()

    async def stop(self, job: Job, stop: Stop) -> None:
        """Deletes the RayJob: KubeRay stops the driver, then the pods save and go."""
        answer = await self._cluster.delete(
            RAY_JOBS, job.key.namespace, stop.run, stop.uid, version=stop.version
        )
        if answer.get("kind") == "RayJob":
            self._store.put(RAY_JOBS, answer)

    def rendered(self, job: Job, attempt: str) -> str | None:
        """That of its RayJob; a job at work is looked at often, and neither spec nor settings change."""
        known = self._rendered.get(job.key)
        if known is None or known[:2] != (job.uid, attempt):
            assert job.spec is not None
            digest = rendered_digest(job, job.spec, attempt, self._settings)
            known = self._rendered[job.key] = (job.uid, attempt, digest)
            while len(self._rendered) > RENDERED_KEPT:
                del self._rendered[next(iter(self._rendered))]
        return known[2]

    async def runs(self, job: Job, seen: tuple[Run, ...]) -> tuple[Run, ...]:
        """The RayJobs as the watch brought them: asking again would double KubeRay's own polling."""
        return seen
