"""The connections to the apiserver: one way to log in for kopf's watches and for our own calls.

kopf's own readers of service accounts and kubeconfigs are enough: the official client would cost 22 MiB
and 0.17 s of CPU time at each start, and kopf imports it wherever it is installed.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import aiohttp
import kopf
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

LOGIN_SECONDS: Final = 60.0
"""Time for which a token counts as fresh: kubelet renews that of a service account on the disk."""


class Login:
    """Where the apiserver is and how to log in: the pod's service account, or else a kubeconfig."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises kopf.LoginError when there is neither; `clock` is monotonic."""
        self._clock, self._since = clock, clock()
        self._info = _log_in()
        self.server = self._info.server
        self.ssl_context = self._info.as_ssl_context()

    def headers(self) -> dict[str, str]:
        """The headers of a request that begins now."""
        now = self._clock()
        if now >= self._since + LOGIN_SECONDS:
            self._info, self._since = _log_in(), now
        return self._info.as_http_headers()


def _log_in() -> kopf.ConnectionInfo:
    settings = kopf.OperatorSettings()
    if (found := kopf.login_with_service_account(settings=settings)) is not None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        # As client-go does it; kopf's address needs a DNS that works.
        return replace(found, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")
    if (found := kopf.login_with_kubeconfig(settings=settings)) is not None:
        if not (found.token or found.certificate_path or found.certificate_data or found.username):
            raise kopf.LoginError(
                "the kubeconfig's user has neither token nor certificate, and plugins are not run:"
                " write it a token of `kubectl create token`"
            )
        return found
    raise kopf.LoginError("this is no pod with a service account; set KUBECONFIG")


def new_session(login: Login, *middlewares: ClientMiddlewareType) -> aiohttp.ClientSession:
    """A session that logs in by itself; `middlewares` see what is asked and answered."""

    async def log_in(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
        request.headers.update(login.headers())
        return await send(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=login.ssl_context),
        middlewares=(log_in, *middlewares),
        # Packing a list costs the apiserver, and us, more than sending it within a cluster.
        headers={"Accept-Encoding": "identity"},
        # A watch event is one line; a job with pictures in its ConfigMap is none of ours, but is long.
        read_bufsize=1 << 21,
    )
