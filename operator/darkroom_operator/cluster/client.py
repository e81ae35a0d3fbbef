"""The only module that talks to the Kubernetes API. What it answers becomes a dict or a typed error.

Writes are server-side applies by one field manager, so repeating one changes nothing. A status carries the
`resourceVersion` that it was decided on: one that was decided on old news is refused. Nothing is written
when this process may no longer be the leader, nor by a request that could still be under way then.
"""

import http
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final
from urllib.parse import urlencode

import aiohttp
from pydantic_core import from_json, to_json

from darkroom_api.names import API_VERSION, FIELD_MANAGER, FINALIZER, KIND
from darkroom_api.status import PersonalizationJobStatus
from darkroom_operator.cluster.answers import Object, error_of, refuse_others
from darkroom_operator.cluster.errors import (
    ClusterError,
    ConflictError,
    FencedError,
    GoneError,
    UnavailableError,
)
from darkroom_operator.cluster.outages import Outage
from darkroom_operator.cluster.resources import JOBS, POD_EVENTS, Resource, resource_of
from darkroom_operator.decisions.observed import Job
from darkroom_operator.metrics import Metrics

REQUEST_SECONDS: Final = 10.0
"""Longest time for a call; kube-apiserver itself gives up after 60 s, a user waits less."""

PAGE_SIZE: Final = 100
"""Objects in one answer to a list, kopf's too. Memory that was needed once is not given back: pages of
500 would make a process with 1,000 jobs 50 MiB larger."""

_APPLY: Final = {"Content-Type": "application/apply-patch+yaml"}
_JSON: Final = {"Content-Type": "application/json"}

_NOT_PLAIN: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Characters that YAML takes for line breaks or not at all, unless they are escaped."""


class Cluster:
    """Calls to the apiserver."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: str,
        metrics: Metrics,
        write_seconds: Callable[[], float] = lambda: REQUEST_SECONDS,
        outage: Outage | None = None,
    ) -> None:
        """`write_seconds` is asked before each write how long it may take; 0 or less forbids it.

        `outage` is told after each call whether the apiserver was available.
        """
        self._session, self._server, self._metrics = session, server.rstrip("/"), metrics
        self._write_seconds = write_seconds
        self._outage = outage or Outage("the API server", time.monotonic)

    async def apply(self, manifest: Object) -> Object:
        """Makes an object of the operator's own, or gives it what the manifest says."""
        resource, metadata = resource_of(manifest), manifest["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"])
        return await self._patch(resource, path, manifest, force=True)

    async def make(self, manifest: Object, *, update: bool) -> Object:
        """Makes an object of a job's; with `update`, one that is there gets what the manifest says.

        Raises NameTakenError for an object of that name which was not made for this job: it is left
        alone. ConflictError while one of an earlier job of the same name is still to go.
        """
        resource, metadata = resource_of(manifest), manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        try:
            return await self.create(resource, namespace, manifest)
        except ConflictError:
            found = await self.get(resource, namespace, name)
        if found is None:
            raise ConflictError(f"{manifest['kind']} {name} has just gone")
        refuse_others(found, manifest)
        if not update:
            return found
        ours = manifest | {"metadata": metadata | {"uid": found["metadata"]["uid"]}}
        return await self._patch(resource, resource.path(namespace, name), ours, force=True)

    async def apply_status(self, job: Job, status: PersonalizationJobStatus) -> Object:
        """Writes a job's status; a conflict if the job is not the one that was decided about."""
        document = _job_manifest(job) | {
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True)
        }
        document["metadata"]["resourceVersion"] = job.resource_version
        path = JOBS.path(job.key.namespace, job.key.name, "status")
        return await self._patch(JOBS, path, document, force=True)

    async def set_finalizer(self, job: Job, *, present: bool) -> Object:
        """Adds our finalizer to a job, or takes it away."""
        document = _job_manifest(job)
        document["metadata"]["finalizers"] = [FINALIZER] if present else []
        return await self._patch(
            JOBS, JOBS.path(job.key.namespace, job.key.name), document, force=True
        )

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, *, version: str | None = None
    ) -> Object:
        """Deletes the object of that uid, at that version if one is given, and in the background what it owns.

        Raises ConflictError when it is another by now.
        """
        preconditions = {"uid": uid} | ({"resourceVersion": version} if version else {})
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": preconditions,
            "propagationPolicy": "Background",
        }
        return await self._write("DELETE", resource, resource.path(namespace, name), options, _JSON)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """An object, or None when there is none."""
        try:
            return await self._call("GET", resource, resource.path(namespace, name))
        except GoneError:
            return None

    async def list(
        self, resource: Resource, namespace: str | None
    ) -> AsyncIterator[tuple[list[Object], int]]:
        """All objects of a namespace or of the cluster, page by page, with the list's version."""
        query: dict[str, str] = {"limit": str(PAGE_SIZE)}
        if resource.selector is not None:
            query["labelSelector"] = resource.selector
        while True:
            path = f"{resource.path(namespace)}?{urlencode(query)}"
            page = await self._call("GET", resource, path, verb="list")
            yield page["items"], int(page["metadata"]["resourceVersion"])
            if not (following := page["metadata"].get("continue")):
                return
            query["continue"] = following

    async def create(
        self, resource: Resource, namespace: str | None, manifest: Object, *, fenced: bool = True
    ) -> Object:
        """Creates an object; a conflict if it is there."""
        send = self._write if fenced else self._call
        path = f"{resource.path(namespace)}?fieldManager={FIELD_MANAGER}"
        return await send("POST", resource, path, manifest, _JSON)

    async def warnings(self, namespace: str, name: str) -> Sequence[Object]:
        """The events that warn of an object of that name."""
        query = urlencode({"fieldSelector": f"involvedObject.name={name},type=Warning"})
        path = f"{POD_EVENTS.path(namespace)}?{query}"
        found: Sequence[Object] = (await self._call("GET", POD_EVENTS, path, verb="list"))["items"]
        return found

    async def replace(self, resource: Resource, manifest: Object) -> Object:
        """Replaces an object of the manifest's `resourceVersion`. Not fenced: it is for the Lease."""
        metadata = manifest["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"])
        return await self._call("PUT", resource, path, manifest, _JSON)

    async def _patch(
        self, resource: Resource, path: str, document: Object, *, force: bool
    ) -> Object:
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        return await self._write("PATCH", resource, f"{path}?{urlencode(query)}", document, _APPLY)

    async def _write(
        self, method: str, resource: Resource, path: str, body: Object, headers: dict[str, str]
    ) -> Object:
        seconds = self._write_seconds()
        if seconds <= 0:
            raise FencedError(f"{method} {path}: this process does not lead")
        return await self._call(method, resource, path, body, headers, seconds=seconds)

    async def _call(
        self,
        method: str,
        resource: Resource,
        path: str,
        body: Object | None = None,
        headers: dict[str, str] | None = None,
        *,
        verb: str | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> Object:
        verb = verb or _VERBS[method]
        begun = time.monotonic()
        code = "none"
        try:
            async with self._session.request(
                method,
                self._server + path,
                data=_text(body) if body is not None else None,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=min(seconds, REQUEST_SECONDS)),
            ) as response:
                code = str(response.status)
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            self._outage.note(why)
            raise UnavailableError(f"{method} {path}: {why}") from error
        finally:
            self._metrics.api_requests.labels(verb, resource.plural, code).inc()
            self._metrics.api_seconds.labels(verb, resource.plural).observe(
                time.monotonic() - begun
            )
        if response.status >= 400:
            text = answer.decode(errors="replace")
            failure = self._failure(response.status, response.headers.get("Retry-After"), text)
            if isinstance(failure, ConflictError):
                self._metrics.api_conflicts.labels(resource.plural).inc()
            raise failure
        self._outage.note(None)
        found: Object = from_json(answer)
        return found

    def _failure(self, status: int, retry_after: str | None, text: str) -> ClusterError:
        """The error for an answer; a refusal in an outage or just after it is none yet.

        An apiserver that has just started forbids everything until it has read the roles.
        """
        failure, cut_off = error_of(status, retry_after, text), self._outage.ongoing
        self._outage.note(str(failure) if isinstance(failure, UnavailableError) else None)
        if cut_off and status == http.HTTPStatus.FORBIDDEN:
            return UnavailableError(str(failure))
        return failure


def _text(body: Object) -> str:
    """JSON that is YAML as well: applies are read as YAML, which has no pairs of surrogates."""
    return _NOT_PLAIN.sub(lambda found: f"\\u{ord(found[0]):04x}", to_json(body).decode())


_VERBS: Final = {
    "GET": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}


def _job_manifest(job: Job) -> Object:
    """What an apply to a job begins with. The uid keeps it off a new job of the same name."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": job.key.name, "namespace": job.key.namespace, "uid": job.uid},
    }
