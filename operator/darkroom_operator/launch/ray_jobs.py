"""Runs attempts on an existing Ray cluster, by Ray's Jobs API.

The cluster's administrator sees to its image, volumes and isolation: nothing is made in Kubernetes, and
the job travels in the environment of the driver. A submission is named `<namespace>.<attempt>.<uid>`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.names import JOB_ENV
from darkroom_operator.cluster.errors import ClusterError, GoneError, RefusedError, UnavailableError
from darkroom_operator.decisions.actions import Stop
from darkroom_operator.decisions.observed import Job, Run, RunState
from darkroom_operator.launch.manifests.children import config_map
from darkroom_operator.launch.manifests.pods import environment
from darkroom_operator.memory.reading import MESSAGE_LENGTH
from darkroom_operator.settings import Settings

REQUEST_SECONDS: Final = 10.0
"""Longest time for a call to Ray's dashboard."""

ENTRYPOINT: Final = (
    f'sh -c \'umask 077; f=$(mktemp) && printf %s "${JOB_ENV}" > "$f"'
    ' && exec python -m darkroom_trainer --job "$f"\''
)

_STATES: Final = {
    "PENDING": RunState.STARTING,
    "RUNNING": RunState.RUNNING,
    "SUCCEEDED": RunState.SUCCEEDED,
    "STOPPED": RunState.STOPPED,
    "FAILED": RunState.FAILED,
}


class RayJobsLauncher:
    """Submits to one Ray cluster."""

    poll_seconds: float | None = 5.0

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session, self._settings = session, settings

    async def launch(self, job: Job, spec: PersonalizationJobSpec, attempt: str) -> None:
        """Submits an attempt; an existing submission of that name is this one."""
        (document,) = config_map(job, spec)["data"].values()
        variables = environment(job, spec, attempt, self._settings) | {JOB_ENV: document}
        body = {
            "entrypoint": ENTRYPOINT,
            "submission_id": _submission_id(job, attempt),
            "runtime_env": {"env_vars": variables},
            "metadata": {"darkroom.dev/job": str(job.key)},
        }
        try:
            await self._call("POST", "/api/jobs/", body)
        except RefusedError as error:
            if "already exists" not in str(error):
                raise

    async def stop(self, job: Job, stop: Stop) -> None:
        """Sends SIGTERM to the driver, which saves; Ray kills it after `grace_seconds`."""
        await self._call("POST", f"/api/jobs/{stop.uid}/stop")

    def rendered(self, job: Job, attempt: str) -> str | None:
        """Nothing is: a submission that waits has been taken as it is."""
        return None

    async def runs(self, job: Job, seen: tuple[Run, ...]) -> tuple[Run, ...]:
        """Asks Ray after the open attempt; those before are over."""
        attempt = job.status.newest_attempt
        if attempt is None:
            return ()
        name = _submission_id(job, attempt.name)
        try:
            answer = await self._call("GET", f"/api/jobs/{name}")
        except GoneError:
            return ()
        run = Run(
            name=attempt.name,
            uid=name,
            owner_uid=job.uid,
            state=_STATES[answer["status"]],
            message=(answer.get("message") or "")[-MESSAGE_LENGTH:],
        )
        return (run,)

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        url = self._settings.ray_address.rstrip("/") + path
        try:
            async with self._session.request(
                method,
                url,
                json=body,
                headers=self._headers(),
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{url}: {error or type(error).__name__}") from error
        if response.status >= 400:
            raise _error_of(response.status, f"{url}: {text[:500]}")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _headers(self) -> dict[str, str]:
        """The token as it is now on the disk: it may be renewed."""
        if not self._settings.ray_token_file:
            return {}
        token = Path(self._settings.ray_token_file).read_text(encoding="utf-8").strip()
        return {"Authorization": f"Bearer {token}"}


def _submission_id(job: Job, attempt: str) -> str:
    """Holds the uid: a new job of the same name is not taken for the old one."""
    return f"{job.key.namespace}.{attempt}.{job.uid[:8]}"


def _error_of(status: int, message: str) -> ClusterError:
    if status == 404:
        return GoneError(message)
    # Ray answers 500 to a submission whose name is taken, with the reason in a traceback.
    if status < 500 or "already exists" in message:
        return RefusedError(message)
    return UnavailableError(message)
