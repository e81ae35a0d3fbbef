"""Sends a run's reports to the operator, from a thread of its own: a dead operator costs the training nothing."""

import http.client
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from darkroom_api.names import PROGRESS_TOKEN_FILE_ENV, PROGRESS_URL_ENV
from darkroom_api.report import ProgressReport

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
"""Least time between two reports: the operator takes one a second."""

TIMEOUT_S: Final = 5.0
"""Longest time for connecting, and for each answer."""

MAX_BACKOFF_S: Final = 30.0
"""Longest time between two tries, whatever Retry-After says."""

LAST_BACKOFF_S: Final = 2.0
"""The same for the last report: the process waits for it, and its pod may be about to go."""

INVALID: Final = (http.client.BAD_REQUEST, http.client.UNPROCESSABLE_ENTITY)
"""Answers to a report that would not get better by sending it again."""


class UnwantedError(Exception):
    """The operator wants nothing of this run any more: its job is being deleted with its model."""


class NotTakenError(Exception):
    """A report that the operator did not take."""

    def __init__(self, why: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(why, retry_after_s)
        self.why = why
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class Endpoint:
    """Where reports go."""

    url: str

    token_file: Path | None
    """File of the bearer token; read for each report, since it is renewed."""

    def put(self, body: bytes) -> None:
        """Sends a report over a connection of its own, so that a new leader is found.

        Raises UnwantedError, NotTakenError, OSError or HTTPException.
        """
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("PUT", parts.path, body, self._headers())
            response = connection.getresponse()
            text = response.read(500).decode(errors="replace")
        finally:
            connection.close()
        if response.status in INVALID:
            logger.error("the operator refuses a report: %s", text)
        elif response.status == http.client.GONE:
            raise UnwantedError(text)
        elif response.status >= 300:
            raise NotTakenError(
                f"{response.status} {text}",
                retry_after_s=_seconds(response.getheader("Retry-After")),
            )

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.token_file is not None:
            token = self.token_file.read_text(encoding="ascii").strip()
            headers["Authorization"] = f"Bearer {token}"
        return headers


class ProgressClient:
    """Keeps the newest report until it is sent; older ones that were not are forgotten."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float] = time.monotonic) -> None:
        self._endpoint, self._clock = endpoint, clock
        self._changed = threading.Condition()
        self._pending: ProgressReport | None = None
        self._told: ProgressReport | None = None
        self._unwanted = False
        self._deadline_s: float | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="progress")
        self._thread.start()

    @classmethod
    def from_environment(cls) -> Self | None:
        """The client that the operator's variables describe; None without them."""
        url, token_file = os.environ.get(PROGRESS_URL_ENV), os.environ.get(PROGRESS_TOKEN_FILE_ENV)
        return cls(Endpoint(url, Path(token_file) if token_file else None)) if url else None

    @property
    def unwanted(self) -> bool:
        """Whether the operator said that it wants nothing of this run any more; no report follows."""
        return self._unwanted

    def tell(self, report: ProgressReport) -> None:
        """Sends a report soon, if it says more than the time; returns at once."""
        with self._changed:
            if self._told is None or report != self._told.model_copy(update={"time": report.time}):
                self._told = self._pending = report
                self._changed.notify()

    def close(self, patience_s: float) -> None:
        """Returns when the last report is sent, or after some seconds."""
        with self._changed:
            self._deadline_s = self._clock() + patience_s
            self._changed.notify()
        self._thread.join(patience_s)

    def _work(self) -> None:
        failures = 0
        while (report := self._next()) is not None:
            pause_s = INTERVAL_S
            try:
                self._endpoint.put(report.model_dump_json(by_alias=True).encode())
                failures = 0
            except UnwantedError as error:
                logger.warning("the operator wants nothing of this run any more: %s", error)
                self._unwanted = True
                return
            except (NotTakenError, OSError, http.client.HTTPException) as error:
                failures += 1
                pause_s = _backoff_s(error, failures)
                if failures == 1:  # once an outage: the log is for the training
                    logger.warning("progress is not reported: %s", error)
                self._keep(report)
            self._pause(pause_s)

    def _next(self) -> ProgressReport | None:
        """Waits for a report; None when there will be none, or no time for it."""
        with self._changed:
            while self._pending is None and self._deadline_s is None:
                self._changed.wait()
            late = self._deadline_s is not None and self._clock() >= self._deadline_s
            report, self._pending = (None if late else self._pending), None
            return report

    def _keep(self, report: ProgressReport) -> None:
        """Puts a report back, unless there is a newer one."""
        with self._changed:
            self._pending = self._pending or report

    def _pause(self, seconds: float) -> None:
        """Waits; the end of the run cuts a long wait short, never the operator's interval."""
        end_s = self._clock() + seconds
        with self._changed:
            while (now_s := self._clock()) < end_s:
                if self._deadline_s is not None:
                    end_s = min(end_s, now_s + LAST_BACKOFF_S, self._deadline_s)
                    self._changed.wait_for(lambda: False, max(0.0, end_s - now_s))
                    return
                self._changed.wait(end_s - now_s)


def _backoff_s(error: Exception, failures: int) -> float:
    asked_s = error.retry_after_s if isinstance(error, NotTakenError) else None
    wait_s = asked_s if asked_s is not None else 2.0 ** min(failures - 1, 5)
    return min(max(wait_s, INTERVAL_S), MAX_BACKOFF_S)


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not used by the operator."""
    return float(header) if header is not None and header.isdecimal() else None
