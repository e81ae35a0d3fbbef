"""A whole operator process in virtual time: its real parts on the fake apiserver, without kopf's watches.

What a watch brings is handed in by `tell`; what nobody tells is lost, as by a watch that missed it.
"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import aiohttp

from darkroom_operator.cluster.resources import JOBS
from darkroom_operator.decisions.observed import Key
from darkroom_operator.process import Process
from darkroom_operator.watches import take_in
from darkroom_testing.in_memory.builders import NOW, SETTINGS, raw_spec
from darkroom_testing.in_memory.fake_api import Answer, FakeApi, failure

NAMESPACES = ("a", "b")


def fine(method, path):
    """No call is disturbed."""


class WholeApi(FakeApi):
    """Keeps Leases as well; calls can be late, fail, or get no answer."""

    def __init__(self):
        super().__init__()
        self.disturb = fine
        """Called before each call: seconds that it takes, an Answer instead, or an exception."""

    @asynccontextmanager
    async def request(self, method, url, *, data=None, headers=None, timeout=None):
        fault = self.disturb(method, url.partition("?")[0].removeprefix("https://fake"))
        if isinstance(fault, float):
            await asyncio.sleep(min(fault, timeout.total))
            if fault >= timeout.total:
                raise TimeoutError
        elif isinstance(fault, Answer):
            yield fault
            return
        elif fault is not None:
            raise fault
        async with super().request(method, url, data=data, headers=headers) as answer:
            yield answer

    def write(self, method, path, query, body):
        if method != "PUT":
            return super().write(method, path, query, body)
        plural, namespace, name, _ = self.place(path)
        known = self.objects.get((plural, namespace, name))
        if known is None:
            return self.missing(plural, name)
        version = body["metadata"]["resourceVersion"]
        if version != known["metadata"]["resourceVersion"]:
            return failure(409, "the object has been modified", name=name)
        metadata = known["metadata"] | {"resourceVersion": version}
        return Answer(200, self.store((plural, namespace, name), body | {"metadata": metadata}))

    def add_job(self, key, *, over=False, **spec):
        metadata = {"name": key.name, "namespace": key.namespace, "labels": {}}
        succeeded = {
            "type": "Succeeded",
            "status": "True",
            "reason": "Completed",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
        status = {"conditions": [succeeded], "observedGeneration": 1} if over else {}
        made = {
            "apiVersion": "darkroom.dev/v1alpha1",
            "kind": "PersonalizationJob",
            "metadata": metadata,
            "spec": raw_spec(**spec),
            "status": status,
        }
        return self.store((JOBS.plural, key.namespace, key.name), made)

    def usurp(self):
        """Another process has taken the Lease, and renews it each time that this is called."""
        for key, found in list(self.objects.items()):
            if key[0] == "leases":
                self.store(key, found | {"spec": found["spec"] | {"holderIdentity": "other"}})

    def let_go(self):
        """That process is gone, and has let go."""
        for key, found in list(self.objects.items()):
            if key[0] == "leases":
                self.store(key, found | {"spec": found["spec"] | {"holderIdentity": ""}})


class Whole:
    """One process that runs, and what it may be asked."""

    def __init__(self, api, loop, **settings):
        self.api, self.loop, self.slept = api, loop, 0.0
        published = {"pod_ip": "10.1.2.3", "progress_service": "progress"}
        self.process = Process(
            replace(SETTINGS, **published | settings),
            SimpleNamespace(server="https://fake"),
            api,
            clock=lambda: loop.time() + self.slept,
            now=lambda: NOW + timedelta(seconds=loop.time() + self.slept),
        )

    def tell(self, raw):
        """What a watch brings."""
        take_in(self.process, JOBS, {"type": "ADDED", "object": raw})

    def sample(self, name, **labels):
        return self.process.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running(api, **settings):
    """A process that was started a moment ago and leads."""
    whole = Whole(api, asyncio.get_running_loop(), **settings)
    task = asyncio.create_task(whole.process.run())
    try:
        await asyncio.sleep(1)
        yield whole
    finally:
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError), results


def keys(count, namespace="a"):
    return [Key(namespace, f"job-{number}") for number in range(count)]


def refused(method, path):
    """The apiserver can't be reached."""
    return aiohttp.ClientConnectionError("Connect call failed")


def silent(method, path):
    """No call is ever answered."""
    return 60.0


def forbidden(method, path):
    """Namespace b can't be read: the Role in it is gone."""
    return failure(403, "forbidden") if method == "GET" and "/namespaces/b/" in path else None
