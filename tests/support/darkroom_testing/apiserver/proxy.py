"""A proxy between operators and their apiserver, at which any request can fail: a tool of the tests.

Operators speak plain HTTP to it, it speaks TLS to the apiserver and passes their tokens on, so the
apiserver sees the operator's own account. It runs in a thread of its own.
"""

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from aiohttp import web

from darkroom_testing.cluster.cluster import Cluster

PATH: Final = re.compile(
    r"/apis?/.*?namespaces/(?P<namespace>[^/]+)/(?P<resource>[^/]+)(/(?P<name>[^/]+)(/(?P<sub>.+))?)?"
)
NOT_PASSED_ON: Final = (
    "host", "content-length", "transfer-encoding", "accept-encoding", "user-agent"
)  # fmt: skip
HANG_SECONDS: Final = 60.0
"""Longest time that a request is left without an answer; the operator gives up long before."""


@dataclass(frozen=True)
class Call:
    """A request about one object."""

    method: str
    resource: str
    """With its subresource, as in `rayjobs/status`."""
    namespace: str
    name: str
    body: Any


class How(StrEnum):
    """What becomes of a call."""

    ANSWER = "answer"
    HANG = "hang"
    DROP = "drop"


@dataclass(frozen=True)
class Fault:
    """A failure of a call: an error instead of the answer, none at all, or a lost connection."""

    how: How
    code: int = 0
    sent: bool = False
    """Whether the apiserver has carried the request out all the same."""


Judge = Callable[[Call], Fault | None]
"""Says how a call fails; None lets it through."""

REASONS: Final = {
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
}


class Stream:
    """A watch that an operator has open."""

    def __init__(self, plural: str, response: web.StreamResponse, request: web.Request) -> None:
        self.plural, self._response, self._request = plural, response, request
        self.muted = False
        """Nothing comes any more, although the connection stands."""
        self.held: list[bytes] | None = None
        """Events that come later; None while they come at once."""

    async def bring(self, line: bytes) -> None:
        """An event of the apiserver."""
        if self.held is not None:
            self.held.append(line)
        elif not self.muted:
            await self.say(line)

    async def say(self, line: bytes) -> None:
        """Something that the apiserver didn't say just now."""
        await self._response.write(line)

    async def release(self) -> None:
        """What was held back comes, the newest first."""
        lines, self.held = self.held or [], None
        for line in reversed(lines):
            await self.say(line)

    def cut(self) -> None:
        """The connection is gone."""
        if self._request.transport is not None:
            self._request.transport.abort()


class Proxy:
    """Passes everything on, but for what `judge` and `drops` say."""

    def __init__(self, cluster: Cluster, agent: str) -> None:
        self._agent = agent
        raw = yaml.safe_load(cluster.local.kubeconfig.read_text())
        self._server = raw["clusters"][0]["cluster"]["server"]
        certificate = str(cluster.local.authority.certificate("ca"))
        self._tls = ssl.create_default_context(cafile=certificate)
        self.judge: Judge = lambda call: None
        self.delay: Callable[[Call], float] = lambda call: 0.0
        """How many seconds late a call reaches the apiserver."""
        self.drops: Callable[[str, dict[str, Any]], bool] = lambda plural, event: False
        """Whether an event of a watch never arrives."""
        self.down = False
        """Nothing goes through, in either direction; connections stand."""
        self.streams: set[Stream] = set()
        self.hanging = 0
        """Requests that have no answer now."""
        self.port = 0
        self.loop = asyncio.new_event_loop()

    def kubeconfig(self, original: Path, path: Path) -> Path:
        """Writes the same kubeconfig with this proxy in the apiserver's place."""
        document = yaml.safe_load(original.read_text())
        document["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        path.write_text(yaml.safe_dump(document))
        return path

    def do(self, work: Callable[[Stream], Awaitable[None] | None], plural: str) -> int:
        """Does something to all open watches of a resource; returns their number."""

        async def each() -> int:
            found = [one for one in self.streams if one.plural == plural]
            for one in found:
                if (awaitable := work(one)) is not None:
                    await awaitable
            return len(found)

        return asyncio.run_coroutine_threadsafe(each(), self.loop).result(30)

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        """Serves until it is told to stop."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            app = web.Application(client_max_size=1 << 24)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(
                app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
            )
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            started.set()
            await stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = _call(request, body)
        if call is not None:
            await asyncio.sleep(self.delay(call))
        fault = self.judge(call) if call is not None else None
        if self.down:
            fault = Fault(How.HANG)
        if fault is not None and not fault.sent:
            return await self._fail(request, fault)
        headers = {key: value for key, value in request.headers.items() if _passed_on(key)}
        headers["User-Agent"] = self._agent
        skipped = ("Accept-Encoding", "Content-Type", "Accept")
        async with self._session.request(
            request.method,
            self._server + request.path_qs,
            data=body or None,
            headers=headers,
            skip_auto_headers=skipped,
        ) as answer:
            if request.query.get("watch") and answer.status == 200:
                return await self._watch(request, answer)
            text = await answer.read()
        if fault is not None:
            return await self._fail(request, fault)
        known = ("Content-Type", "Retry-After")
        kept = {key: answer.headers[key] for key in known if key in answer.headers}
        return web.Response(status=answer.status, body=text, headers=kept)

    async def _fail(self, request: web.Request, fault: Fault) -> web.Response:
        if fault.how is How.ANSWER:
            return _refusal(fault.code)
        if fault.how is How.HANG:
            self.hanging += 1
            try:
                await asyncio.sleep(HANG_SECONDS)
            finally:
                self.hanging -= 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _watch(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        stream = Stream(request.path.rpartition("/")[2], response, request)
        self.streams.add(stream)
        rest = b""
        try:
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if not self.down and not self.drops(stream.plural, json.loads(line)):
                        await stream.bring(line + b"\n")
        finally:
            self.streams.discard(stream)
        return response


@contextmanager
def proxied(cluster: Cluster, agent: str = "proxied") -> Iterator[Proxy]:
    """A proxy that serves; `agent` is how the audit log names who goes through it."""
    proxy = Proxy(cluster, agent)
    started, stop = threading.Event(), asyncio.Event()
    serving = threading.Thread(
        target=lambda: proxy.loop.run_until_complete(proxy.serve(started, stop)), daemon=True
    )
    serving.start()
    assert started.wait(30)
    try:
        yield proxy
    finally:
        proxy.loop.call_soon_threadsafe(stop.set)
        serving.join(30)


def _call(request: web.Request, body: bytes) -> Call | None:
    """What a request is about; None for lists, watches and what is in no namespace."""
    found = PATH.fullmatch(request.path)
    if found is None:
        return None
    document = None
    if body:
        with suppress(ValueError):
            document = json.loads(body)
    name = found["name"] or (document or {}).get("metadata", {}).get("name")
    if name is None:
        return None
    resource = found["resource"] + (f"/{found['sub']}" if found["sub"] else "")
    return Call(request.method, resource, found["namespace"], name, document)


def _passed_on(header: str) -> bool:
    return header.lower() not in NOT_PASSED_ON


def _refusal(code: int) -> web.Response:
    """As kube-apiserver words it."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": REASONS[code],
        "message": f"the proxy says {code}",
        "details": {"name": "some-object"},
    }
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response(body, status=code, headers=headers)
