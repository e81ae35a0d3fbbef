"""Logs what fails for a while: one line when it begins, one a minute, one when it ends.

While the API server is away every call of every job fails, and every watch of kopf: each line of theirs
would say the same.
"""

import logging
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

TOLD_SECONDS: Final = 60.0
"""Time between two lines about an outage that goes on."""

QUIET_SECONDS: Final = 10.0
"""Time without a failure after which an API server is well again: one that answers every other call is not."""


class Outage:
    """One thing that is needed all the time, and whether it can be had."""

    def __init__(
        self,
        what: str,
        clock: Callable[[], float],
        *,
        told_seconds: float = TOLD_SECONDS,
        quiet_seconds: float = 0.0,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`clock` is monotonic; `ended` is called at the end of each outage.

        The first call that succeeds ends it, but for those within `quiet_seconds` of a failure.
        """
        self._what, self._clock, self._ended = what, clock, ended
        self._told_seconds, self._quiet_seconds = told_seconds, quiet_seconds
        self._begun: float | None = None
        self._told = self._failed = 0.0
        self._failures = 0

    @property
    def ongoing(self) -> bool:
        """Whether it can't be had now: that is told already."""
        return self._begun is not None

    def note(self, why: str | None) -> None:
        """Takes in how a call ended: why it failed, or None when it did not."""
        if why is not None:
            self._fail(why)
        elif self._begun is not None and self._clock() >= self._failed + self._quiet_seconds:
            self._end(self._begun)

    def _fail(self, why: str) -> None:
        now = self._failed = self._clock()
        self._failures += 1
        if self._begun is None:
            self._begun = self._told = now
            logger.warning("no access to %s: %s", self._what, why)
        elif now >= self._told + self._told_seconds:
            self._told = now
            logger.warning(
                "no access to %s for %.0f s (%d failures): %s",
                self._what,
                now - self._begun,
                self._failures,
                why,
            )

    def _end(self, begun: float) -> None:
        logger.info("access to %s again, after %.0f s", self._what, self._failed - begun)
        self._begun, self._failures = None, 0
        self._ended()


class Outages:
    """Things that can fail one by one, by name: told when that begins and when it ends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._outages: dict[str, Outage] = {}

    @property
    def ongoing(self) -> bool:
        """Whether any of them can't be had now."""
        return any(one.ongoing for one in self._outages.values())

    def note(self, what: str, why: str | None) -> None:
        """Takes in how a call about one of them ended: why it failed, or None when it did not."""
        if why is not None and what not in self._outages:
            self._outages[what] = Outage(what, self._clock, told_seconds=float("inf"))
        if (known := self._outages.get(what)) is not None:
            known.note(why)


class ToldAlready(logging.Filter):
    """Takes kopf's lines about requests that fail out of a log that tells of it in its own words."""

    def __init__(self, told: Callable[[str], bool]) -> None:
        """`told` says of such a line whether the log tells of what failed already."""
        super().__init__()
        self._is_told = told

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is to be written."""
        text = record.getMessage()
        about_a_request = record.name.startswith("kopf.") and text.startswith("Request attempt")
        return not (about_a_request and self._is_told(text))
