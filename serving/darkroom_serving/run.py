"""`darkroom serve` on this machine: starts Ray Serve and waits until it is told to stop."""

import json
import logging
import os
import re
import shlex
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from darkroom_api.builtin import builtin_folder
from darkroom_api.integrity import IntegrityError, read_manifest
from darkroom_api.names import MANIFEST_FILE
from darkroom_local.environment import SHORT_SPIN
from darkroom_local.ray_session import LOOPBACK, RayNotStartedError, RaySession
from darkroom_local.stop_signals import handled_by
from darkroom_serving.classification.sealing import classifier_cache, seal_classifier
from darkroom_serving.errors import LOADING, PortInUseError, ServingError
from darkroom_serving.metrics_port import metrics_port
from darkroom_serving.models.bases import ADDITIONS
from darkroom_serving.settings import ServingSettings

READY_SECONDS: Final = 300.0
"""Longest wait until the models are loaded."""

POLL_SECONDS: Final = 0.2

WATCH_SECONDS: Final = 1.0
"""How often Ray's head is looked after."""

STOP_SECONDS: Final = 12.0
"""Longest wait for the replicas to end; then they are killed."""

logger = logging.getLogger(__name__)


def serve(
    settings: ServingSettings,
    on_ready: Callable[[str], None],
    on_note: Callable[[str], None] = logger.info,
) -> signal.Signals:
    """Serves until a signal asks it to stop, and returns that; calls `on_ready` with the URL once it answers.

    `on_note` is called with what the user should know before that: where a plain classifier was sealed.
    Raises PortInUseError before anything is started, and ServingError when the server can't start.
    Must run in the main thread, which gets the signals.
    """
    check_port(settings.host, settings.port)
    if settings.metrics_port is not None:
        check_port(settings.host, settings.metrics_port, "--metrics-port")
    base = _folder("--base", settings.base, "miniature")
    plain = _seal_plain_classifier(settings.classifier, on_note)
    classifier = _folder("--classifier", plain, "classifier")
    settings = replace(settings, registry=settings.registry.resolve())
    with _stop_signals() as stop:
        try:
            with _ray() as session, _metrics(settings):
                _serve_on(session, settings, base, classifier, on_ready, stop)
        except RayNotStartedError as error:
            raise ServingError(f"Ray can't start: {error}") from error
    return stop.received


def _ray() -> RaySession:
    # Whoever serves may train beside it: threads that spin for long would starve each other.
    cores = len(os.sched_getaffinity(0))
    return RaySession(cores, SHORT_SPIN)


def _metrics(settings: ServingSettings) -> AbstractContextManager[None]:
    """Serves metrics where that was asked for."""
    import ray

    if settings.metrics_port is None:
        return nullcontext()
    (node,) = ray.nodes()
    source = f"http://{LOOPBACK}:{node['MetricsExportPort']}/metrics"
    return metrics_port(settings.host, settings.metrics_port, source)


def _serve_on(
    session: RaySession,
    settings: ServingSettings,
    base: Path,
    classifier: Path,
    on_ready: Callable[[str], None],
    stop: "Stop",
) -> None:
    """Serves on a Ray that has started, until it is told to stop."""
    if stop.is_set():
        return
    try:
        _start(settings, base, classifier)
        url = _url(settings)
        if _wait_until_ready(url, session, stop):
            on_ready(url)
            while not stop.wait(WATCH_SECONDS):
                check_head(session)
    finally:
        _end_replicas_in_time(session)


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
    except (LookupError, FileNotFoundError) as error:
        raise ServingError(f"{option}: {error}") from error
    if not found.is_dir():
        raise ServingError(f"{option}: there is no folder {found}; check the path")
    if not (found / MANIFEST_FILE).exists():
        name = re.sub(r"[^A-Za-z0-9]+", "-", found.resolve().name).strip("-") or "mine"
        raise ServingError(
            f"{option}: {found} is not sealed; import it once with: darkroom import {shlex.quote(str(found))}"
            f" {name}, and give {option} bases/{name}"
        )
    try:
        kind = read_manifest(found).kind
    except IntegrityError as error:
        raise ServingError(f"{option}: {error}; give the folder of a complete model") from error
    if kind in ADDITIONS:
        raise ServingError(
            f"{option}: {found} goes on a base model and is none; give the folder of its base, and have"
            " it in the registry"
        )
    return found.resolve()


def _seal_plain_classifier(folder: Path | None, on_note: Callable[[str], None]) -> Path | None:
    """The folder, or the sealed copy of one that nobody sealed; raises ServingError."""
    if folder is None or not folder.is_dir() or (folder / MANIFEST_FILE).exists():
        return folder
    copy = seal_classifier(folder, classifier_cache())
    on_note(f"sealed {folder} in passing: {copy} is what is served")
    return copy


def check_head(session: RaySession) -> None:
    """Raises ServingError when Ray's head was killed."""
    if session.head_is_dead():
        raise ServingError(
            f"Ray's head process was killed; start the server again (Ray's log: {session.logs})"
        )


def _start(settings: ServingSettings, base: Path, classifier: Path) -> None:
    """Starts the HTTP proxy and the replicas, side by side; returns before these are ready."""
    from ray import serve as ray_serve

    from darkroom_serving.app import APP_NAME, build_application

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    target = ray_serve.RunTarget(
        build_application(settings, base, classifier), name=APP_NAME, route_prefix="/"
    )
    ray_serve.start(http_options={"host": settings.host, "port": settings.port})
    ray_serve.run_many([target], wait_for_applications_running=False)


def _end_replicas_in_time(session: RaySession) -> None:
    """Ends the replicas, after the requests that they work on; Ray's end kills those that are late."""
    # In a thread: without Ray's head it would wait for long.
    ending = threading.Thread(target=_end_replicas, daemon=True, name="shutdown")
    ending.start()
    deadline_s = time.monotonic() + STOP_SECONDS
    while not session.head_is_dead() and ending.is_alive() and time.monotonic() < deadline_s:
        ending.join(POLL_SECONDS)


def _end_replicas() -> None:
    from ray import serve as ray_serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    from darkroom_serving.app import APP_NAME

    # What is not there, or not any more, has ended.
    with suppress(RayError, RayServeException):
        ray_serve.delete(APP_NAME)


class Stop(threading.Event):
    """Set when the server is to stop."""

    received: signal.Signals = signal.SIGTERM
    """What asked for it."""

    def ask(self, number: int, frame: object) -> None:
        """The handler of a signal; the first one counts."""
        if not self.is_set():
            self.received = signal.Signals(number)
            self.set()


@contextmanager
def _stop_signals() -> Iterator[Stop]:
    """What the signals that ask to stop set; their former handlers are put back at the end."""
    stop = Stop()
    with handled_by(stop.ask):
        yield stop


def _url(settings: ServingSettings) -> str:
    """Where a client of this machine finds the server."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    host = everywhere.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _wait_until_ready(url: str, session: RaySession, stop: Stop) -> bool:
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
        check_head(session)
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
