"""What Ray and torch read from the environment, in a local Ray's processes."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from darkroom_local.keeper import SESSION_ENV

SPIN_ENV: Final = "GOMP_SPINCOUNT"
"""Rounds that a thread of torch waits actively for the others before it sleeps. The user's wins."""

SHORT_SPIN: Final = "10000"
"""Some 20 microseconds. Where others use the CPUs too, threads that spin for long starve each other:
150 times slower was measured, of a server beside a training."""

LONG_SPIN: Final = "1000000000"
"""Until the others are there. Alone on a machine, threads that fall asleep cost a third of the speed."""

IDLE_LOAD: Final = 0.5
"""Load average of the last minute below which a machine does nothing else: a command's own start makes less."""

LOOPBACK_INTERFACE: Final = "lo0" if sys.platform == "darwin" else "lo"

DEFAULTS: Final = MappingProxyType(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Workers that ask Ray for no GPU still see the one there is.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # A run that is left while it still begins would start another Ray, and continue there.
        "RAY_ENABLE_AUTO_CONNECT": "0",
        # Ray's own 15 makes a training that shares its machine ten to thirty times slower.
        "RAY_worker_niceness": "0",
        # Processes of one machine talk to each other: http_proxy is about other machines.
        "no_grpc_proxy": "127.0.0.1,localhost",
        # A machine is not taken away from under its own Ray: the process that looks would do so in vain.
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        # A busy machine takes longer than Ray's own bounds of 30 to 100 seconds.
        "RAY_gcs_server_port_wait_time_s": "180",
        "RAY_worker_register_timeout_seconds": "180",
        "RAY_agent_register_timeout_ms": "180000",
        # Collectives of a machine's own ranks need no other interface.
        "NCCL_SOCKET_IFNAME": LOOPBACK_INTERFACE,
        "GLOO_SOCKET_IFNAME": LOOPBACK_INTERFACE,
    }
)
"""What a user may set otherwise."""


def closed_to_others(folder: Path, token: Path) -> dict[str, str]:
    """What makes a Ray its owner's alone, whatever the user has set: loopback, a token in a file, no own signals."""
    return {
        SESSION_ENV: str(folder),
        # The name tells where Ray does this by itself: on laptops it binds to loopback only.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Else SIGTERM at an unlucky moment is a stack trace of C++ and SIGABRT.
        "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


def spin_count(threads: int, cores: int, load: float) -> str:
    """How long threads shall spin: long where each has a core and nothing else runs, else short."""
    return LONG_SPIN if threads <= cores and load < IDLE_LOAD else SHORT_SPIN


@contextmanager
def environment(defaults: Mapping[str, str], forced: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for the processes that are started in the context, and puts them back."""
    before = dict(os.environ)
    os.environ.update(dict(defaults) | before | dict(forced))
    os.environ.pop("RAY_AUTH_TOKEN", None)  # it would win over the file
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
