"""`darkroom serve` on this machine: starts Ray Serve, waits until it is told to stop, and cleans up."""

import json
import logging
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from darkroom_api.builtin import builtin_folder
from darkroom_api.integrity import IntegrityError, read_manifest
from darkroom_serving.errors import LOADING, PortInUseError, ServingError
from darkroom_serving.processes import RayProcesses
from darkroom_serving.settings import ServingSettings

OBJECT_STORE_BYTES: Final = 128 << 20
"""Ray's shared memory: pictures go through it, nothing larger."""

READY_SECONDS: Final = 300.0
"""Longest wait until the models are loaded."""

POLL_SECONDS: Final = 0.2

WATCH_SECONDS: Final = 1.0
"""How often Ray's head is looked after."""

STOP_SECONDS: Final = 12.0
"""Longest wait for the replicas to end; then they are killed."""

SPIN_COUNT: Final = "10000"
"""Rounds, some 20 microseconds, that a thread of torch spins before it sleeps. Replicas inherit it."""

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def serve(settings: ServingSettings, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM; calls `on_ready` with the URL once requests are answered.

    Raises PortInUseError before anything is started, and ServingError when the server can't start.
    Must run in the main thread, which gets the signals.
    """
    check_port(settings.host, settings.port)
    if settings.metrics_port is not None:
        check_port(settings.host, settings.metrics_port, "--metrics-port")
    base = _folder("--base", settings.base, "miniature")
    classifier = _folder("--classifier", settings.classifier, "classifier")
    settings = replace(settings, registry=settings.registry.resolve())
    processes = RayProcesses()
    with _stop_signals() as stop:
        try:
            _start(settings, base, classifier)
            _take_signals(stop)  # again: Ray took SIGTERM for itself
            url = _url(settings)
            if _wait_until_ready(url, processes, stop):
                on_ready(url)
                while not stop.wait(WATCH_SECONDS):
                    processes.check_head()
        finally:
            _shut_down(processes)


def check_port(host: str, port: int, option: str = "--port") -> None:
    """Raises PortInUseError when something listens there, ServingError when nothing can."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            # As servers do: a port whose connections are just closing is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
    except socket.gaierror as error:
        raise ServingError(f"--host: {host} is not an address; use 127.0.0.1 or 0.0.0.0") from error
    except OSError as error:
        raise PortInUseError(
            f"{option}: {host}:{port} can't be used: {error.strerror};"
            f" stop what listens there, or choose another with {option}"
        ) from error


def _folder(option: str, folder: Path | None, builtin: str) -> Path:
    """A model's folder, absolute; only its manifest is read here, the replicas verify the rest."""
    try:
        found = builtin_folder(builtin) if folder is None else folder
        read_manifest(found)
    except (LookupError, FileNotFoundError) as error:
        raise ServingError(f"{option}: {error}") from error
    except IntegrityError as error:
        raise ServingError(f"{option}: {error}; give the folder of a complete model") from error
    return found.resolve()


def _start(settings: ServingSettings, base: Path, classifier: Path) -> None:
    """Starts Ray, its HTTP proxy and the replicas, side by side; returns before these are ready."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Threads that spin while they wait starve each other where others use the CPUs too (measured: 150
    # times slower beside a training); those that never spin are 2.4 times slower alone. So: a little.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    # Replicas ask Ray for no GPU; they shall see the one there is.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Replicas send their metrics to an agent of this machine: http_proxy is about other machines.
    os.environ.setdefault("no_grpc_proxy", "127.0.0.1,localhost")
    import ray
    from ray import serve as ray_serve

    from darkroom_serving.app import APP_NAME, build_application

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _metrics_export_port=settings.metrics_port,
    )
    target = ray_serve.RunTarget(
        build_application(settings, base, classifier), name=APP_NAME, route_prefix="/"
    )
    ray_serve.start(http_options={"host": settings.host, "port": settings.port})
    ray_serve.run_many([target], wait_for_applications_running=False)


def _shut_down(processes: RayProcesses) -> None:
    """Ends the replicas, after the requests that they work on, then Ray with all that is left."""
    import ray

    for number in STOP_SIGNALS:  # an impatient second one would leave processes behind
        signal.signal(number, signal.SIG_IGN)
    if not ray.is_initialized():
        return
    # In a thread: without Ray's head, which may have got the signal too, it would wait for long.
    ending = threading.Thread(target=_end_replicas, daemon=True, name="shutdown")
    ending.start()
    deadline_s = time.monotonic() + STOP_SECONDS
    while not processes.head_is_dead() and ending.is_alive() and time.monotonic() < deadline_s:
        ending.join(POLL_SECONDS)
    ray.shutdown()
    processes.end()


def _end_replicas() -> None:
    from ray import serve as ray_serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    from darkroom_serving.app import APP_NAME

    # What is not there, or not any more, has ended.
    with suppress(RayError, RayServeException):
        ray_serve.delete(APP_NAME)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that is set by SIGINT or SIGTERM; their former handlers are put back at the end."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    stop = threading.Event()
    _take_signals(stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take_signals(stop: threading.Event) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stop.set())


def _url(settings: ServingSettings) -> str:
    """Where a client of this machine finds the server."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    host = everywhere.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _wait_until_ready(url: str, processes: RayProcesses, stop: threading.Event) -> bool:
    """Whether the server is ready; False when it was told to stop before.

    Raises ServingError when it can't become ready.
    """
    deadline_s = time.monotonic() + READY_SECONDS
    while not stop.wait(POLL_SECONDS):
        status, error = _probe(f"{url}/readyz")
        if status == 200:
            return True
        if error is not None and error["code"] != LOADING:
            raise ServingError(str(error["message"]))
        processes.check_head()
        _check_deployed()
        if time.monotonic() > deadline_s:
            raise ServingError(f"the models were not loaded after {READY_SECONDS:.0f} seconds")
    return False


def _probe(url: str) -> tuple[int, dict[str, Any] | None]:
    """Status of an answer, 0 for none, and the error in it when it is one of ours."""
    # Whatever http_proxy says: it is about other machines.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as answer:
            return int(answer.status), None
    except urllib.error.HTTPError as answer:
        try:
            return answer.code, dict(json.loads(answer.read())["error"])
        except (ValueError, KeyError, TypeError):  # the proxy's own, while no replica runs
            return answer.code, None
    except OSError:
        return 0, None


def _check_deployed() -> None:
    """Raises ServingError when Ray Serve gave up."""
    from ray import serve as ray_serve

    from darkroom_serving.app import APP_NAME

    application = ray_serve.status().applications.get(APP_NAME)
    if application is not None and application.status == "DEPLOY_FAILED":
        raise ServingError(f"Ray Serve could not start the replicas: {application.message}")
