"""Ray on this machine for as long as a context lasts, and only for this process.

Everything that Ray lets us bind listens on loopback; a token that only this user can read is asked for
besides. Signals are for the owner alone. When the owner ends, well or not, Ray ends within a second.
"""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from darkroom_local import keeper
from darkroom_local.environment import DEFAULTS, SPIN_ENV, closed_to_others, environment
from darkroom_local.folders import Folder, locked_folder
from darkroom_local.load import busy
from darkroom_local.stop_signals import signals_held
from darkroom_local.words import plain

OBJECT_STORE_BYTES: Final = 128 << 20
"""Ray's shared memory: pictures may go through it, nothing larger."""

LOOPBACK: Final = "127.0.0.1"

HEAD_PROCESSES: Final = frozenset({"gcs_server", "raylet"})
"""Processes without which a local Ray can't go on."""


class RayNotStartedError(Exception):
    """Ray could not start; the message says why, and where its logs are."""


class RaySession:
    """Starts Ray, says whether its head lives, and ends it; a context manager."""

    def __init__(self, num_cpus: int, spin_count: str, **init_options: Any) -> None:
        """`num_cpus` is what Ray may give away; further options are those of `ray.init`."""
        self._num_cpus = num_cpus
        self._defaults: Mapping[str, str] = {**DEFAULTS, SPIN_ENV: spin_count}
        self._init_options = init_options
        self._head: list[psutil.Process] = []
        self._keep_logs = False
        self._folder: Folder | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def logs(self) -> Path:
        """Where Ray's logs are after a failure."""
        assert self._folder is not None, "in the context only"
        return self._folder.kept_logs

    def head_is_dead(self) -> bool:
        """Whether a process ended without which Ray can't go on."""
        return any(not _lives(process) for process in self._head)

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.callback(self._await_keeper)
            self._folder = folder = opened.enter_context(locked_folder())
            opened.callback(self._remove, folder)
            opened.callback(_read_settings_again)
            forced = closed_to_others(folder.path, folder.token)
            opened.enter_context(environment(self._defaults, forced))
            with signals_held():
                self._keeper = _start_keeper(folder)
                opened.callback(_end, folder)
                self._start(folder)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._keep_logs = isinstance(error, Exception)
        self._opened.close()

    def _start(self, folder: Folder) -> None:
        import ray
        from ray._private import ray_constants, utils, worker

        ray_constants.ENABLE_RAY_CLUSTER = False  # read from the environment when Ray was imported
        utils.set_sigterm_handler = lambda handler: None  # SIGTERM is the owner's
        worker.listen_error_messages = lambda *_: (
            None
        )  # it prints them, in colours; they are logged too
        _read_settings_again()
        try:
            ray.init(
                address="local",
                num_cpus=self._num_cpus,
                include_dashboard=False,
                logging_level="critical",
                log_to_driver=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address=LOOPBACK,
                _temp_dir=str(folder.ray),
                **self._init_options,
            )
        except Exception as error:  # Ray has no type for it
            self._keep_logs = True
            raise RayNotStartedError(_why(error, folder)) from error
        self._head = [p for p in psutil.Process().children() if p.name() in HEAD_PROCESSES]

    def _remove(self, folder: Folder) -> None:
        keeper.remove(folder.path, keep_logs=self._keep_logs)

    def _await_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.wait()


def _read_settings_again() -> None:
    """Ray reads its environment once, and this process may use another Ray before or after."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _end(folder: Folder) -> None:
    """Disconnects, then kills all processes: they hear no request to end, so Ray would wait a second for each."""
    import ray
    from ray._private import worker

    def kill(**options: object) -> None:
        keeper.end_processes(folder.path, psutil.Process())

    with signals_held():
        if worker._global_node is not None:
            worker._global_node.kill_all_processes = kill
        ray.shutdown()
        kill()


def _start_keeper(folder: Folder) -> subprocess.Popen[bytes]:
    me = psutil.Process().pid
    command = [sys.executable, "-P", keeper.__file__, str(folder.path), str(me)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def _why(error: Exception, folder: Folder) -> str:
    """What is told of a Ray that did not start, in a line."""
    said = [plain(error).splitlines()[0].rstrip("."), busy()]
    return f"{'; '.join(filter(None, said))} (Ray's logs: {folder.kept_logs})"


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
