"""The connections to the apiserver: one way to log in for kopf's watches and for our own calls.

Tokens of service accounts are renewed on the disk, so the header is made anew for each request.
"""

from collections.abc import Callable

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

WatchOpened = Callable[[str], None]
"""Is told the plural of a resource when the stream of its watch was opened."""


async def load_configuration() -> Configuration:
    """Where the apiserver is and how to log in: the pod's service account, or else a kubeconfig."""
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return configuration


def new_session(
    configuration: Configuration, opened: WatchOpened | None = None
) -> aiohttp.ClientSession:
    """A session that logs in by itself, and tells of watches that were answered."""

    async def log_in(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
        token = await configuration.get_api_key_with_prefix("BearerToken")
        if token:
            request.headers["Authorization"] = token
        response = await send(request)
        if opened is not None and response.status == 200 and request.url.query.get("watch"):
            opened(request.url.path.rpartition("/")[2])
        return response

    ssl_context = RESTClientObject(configuration).ssl_context
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=ssl_context),
        middlewares=(log_in,),
        # A watch event is one line; a job with pictures in its ConfigMap is none of ours, but is long.
        read_bufsize=1 << 21,
    )
