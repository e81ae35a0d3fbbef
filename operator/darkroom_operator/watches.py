"""Where kopf meets the operator: watches feed the memory and the queue. Nothing is decided here.

kopf swallows the errors of these handlers and never repeats them, so there is nothing in them to fail.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final

import kopf

from darkroom_api.names import GROUP, JOB_LABEL, PLURAL, VERSION
from darkroom_operator.cluster.client import PAGE_SIZE
from darkroom_operator.cluster.resources import JOBS, PODS, RAY_JOBS, Resource
from darkroom_operator.cluster.session import new_session
from darkroom_operator.memory.reading import job_key, resource_version
from darkroom_operator.process import Process
from darkroom_operator.settings import LauncherKind, Settings

STREAM_SECONDS: Final = 240
"""Life of a watch's stream: each new one is a sign of life for `/healthz`."""

BACKOFF_SECONDS: Final = (1.0, 1.0, 2.0, 4.0, 8.0)
"""Waits of a watch between its requests while they fail; the last is that of all that follow."""


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """How kopf works for us."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False  # our events have names, so that they are not told twice
    found.peering.standalone = True  # the Lease decides who acts: peering pauses both of two equals
    found.scanning.disabled = bool(settings.namespaces)  # it needs cluster-wide rights
    found.networking.request_timeout = 30  # its default of 5 min stalls an object for so long
    found.networking.error_backoffs = Backoffs()
    found.watching.server_timeout = STREAM_SECONDS
    found.watching.chunk_size = PAGE_SIZE
    found.watching.label_selectors["ray.io", "v1", "rayjobs"] = JOB_LABEL
    found.watching.label_selectors["", "v1", "pods"] = JOB_LABEL
    # A worker serves one object, and keeps it while idle. Their number is unbounded, as by default: of
    # a list all objects beyond a limit would wait in memory, since kopf goes on reading meanwhile.
    found.queueing.idle_timeout = 0.05  # by default 5 s
    found.persistence.diffbase_storage = NoDiffBase()
    return found


class Backoffs(Iterable[float]):
    """Waits without an end.

    By default kopf gives up after a minute of 403 or 5xx, and ends with all its watches: for an apiserver
    that is overloaded, or for one namespace whose Role is gone.
    """

    def __iter__(self) -> Iterator[float]:
        """As many as are asked for, by each request anew."""
        return itertools.chain(BACKOFF_SECONDS, itertools.repeat(BACKOFF_SECONDS[-1]))


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps kopf from copying each object in full to find what has changed: `decide` finds that."""

    def build(self, **_: Any) -> Any:
        """Nothing of an object is compared."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing is written to an object."""


def new_registry(process: Process) -> kopf.OperatorRegistry:
    """Handlers that feed a process. A registry of its own: kopf's default one adds logins to ours."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        session = new_session(process.login, process.watch_answers)
        return kopf.AiohttpSession(server=process.login.server, aiohttp_session=session)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def on_job(event: kopf.RawEvent, **_: Any) -> None:
        take_in(process, JOBS, event)

    if process.settings.launcher is LauncherKind.KUBERAY:

        @kopf.on.event("ray.io", "v1", "rayjobs", registry=registry)
        async def on_ray_job(event: kopf.RawEvent, **_: Any) -> None:
            take_in(process, RAY_JOBS, event)

        @kopf.on.event("", "v1", "pods", registry=registry)
        async def on_pod(event: kopf.RawEvent, **_: Any) -> None:
            take_in(process, PODS, event)

    return registry


def take_in(process: Process, resource: Resource, event: kopf.RawEvent) -> None:
    """Takes one event of a watch into the memory, and has its job looked at if that was news."""
    process.health.heard(resource.plural)
    store, raw = process.store, event["object"]
    if event["type"] == "DELETED":
        key = store.forget(resource, job_key(raw), resource_version(raw))
    else:
        key = store.put(resource, raw)
    if key is not None:
        process.queue.add(key)
