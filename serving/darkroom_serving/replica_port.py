"""The port of a replica for calls from other deployments: on loopback, where the server is of this machine alone."""

import os
from typing import Any

from darkroom_local.keeper import SESSION_ENV
from darkroom_local.ray_session import LOOPBACK


def stay_on_loopback() -> None:
    """To be called in a replica's constructor: Ray Serve opens the port after it, on all interfaces.

    Ray's token is asked for there too; but nobody else shall reach it at all. On a cluster the other
    nodes have to, so only a local server's replicas change it.
    """
    if SESSION_ENV not in os.environ:
        return
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica

    def add_port(server: Any, address: str) -> int:
        _, port = address.rsplit(":", 1)
        return int(add_port_to_grpc_server(server, f"{LOOPBACK}:{port}"))

    replica.add_port_to_grpc_server = add_port
