"""The queue of jobs to reconcile: each key once, one worker per key, and failures back off.

A job that is added while it waits is the same job; one that is added while it is worked on comes again
right after. So whoever adds need not know what is going on, and nothing is worked on that is not news.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_DELAY_SECONDS: Final = 0.1
"""Wait after a first failure; doubles with each further one in a row."""

LAST_DELAY_SECONDS: Final = 60.0
"""Longest wait after a failure."""

JITTER: Final = 0.2
"""Share of a wait that is left to chance, so that what failed together does not come back together."""


class RetryError(Exception):
    """A job could not be dealt with; it is tried again after a while."""


Handle = Callable[[K], Awaitable[float | None]]
"""Deals with one key; answers when to come again, in seconds. RetryError for later and later."""


class WorkQueue(Generic[K]):
    """Keys, in the order in which they came, and the workers that deal with them."""

    def __init__(
        self,
        handle: Handle[K],
        *,
        workers: int,
        told: Callable[[RetryError], bool] = lambda error: False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`told` says of a failure whether it is that of many jobs, and in the log already."""
        self._handle, self._workers, self._told, self._chance = handle, workers, told, chance
        self._waiting: OrderedDict[K, None] = OrderedDict()
        self._working: dict[K, float] = {}
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._looks: dict[K, asyncio.Event] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._news = asyncio.Event()
        self._open = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> None:
        """Lets the workers work."""
        self._open = True
        self._news.set()

    def close(self) -> None:
        """Lets no worker begin anything; what is under way ends."""
        self._open = False

    async def drained(self) -> None:
        """Waits until nothing is under way."""
        await self._idle.wait()

    def add(self, key: K) -> None:
        """Has a key looked at soon."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        else:
            self._waiting[key] = None
            self._news.set()

    def add_later(self, key: K, seconds: float) -> None:
        """Has a key looked at after a while, unless it comes up before."""
        loop = asyncio.get_running_loop()
        known = self._timers.get(key)
        if known is not None and known.when() <= loop.time() + seconds:
            return
        if known is not None:
            known.cancel()
        self._timers[key] = loop.call_later(seconds, self.add, key)

    async def worked_on(self, key: K) -> None:
        """Waits until a look at a key has ended; that may be one that had begun before."""
        await self._looks.setdefault(key, asyncio.Event()).wait()

    def in_flight(self) -> int:
        """How many keys are being worked on."""
        return len(self._working)

    def oldest_seconds(self) -> float:
        """How long the work that takes longest has been under way."""
        now = asyncio.get_running_loop().time()
        return max((now - begun for begun in self._working.values()), default=0.0)

    async def run(self) -> None:
        """Works, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._next()
            try:
                again = await self._handle(key)
            except RetryError as error:
                again = self._delay(key)
                level = logging.DEBUG if self._told(error) else logging.WARNING
                logger.log(level, "%s: %s; again in %.1f s", key, error, again)
            except Exception:
                again = self._delay(key)
                logger.exception("%s: unexpected; again in %.1f s", key, again)
            else:
                self._failures.pop(key, None)
            finally:
                self._done(key)
            if again is not None and key not in self._waiting:
                self.add_later(key, again)

    async def _next(self) -> K:
        while not (self._open and self._waiting):
            self._news.clear()
            await self._news.wait()
        key, _ = self._waiting.popitem(last=False)
        self._working[key] = asyncio.get_running_loop().time()
        self._idle.clear()
        return key

    def _done(self, key: K) -> None:
        del self._working[key]
        if not self._working:
            self._idle.set()
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        if (look := self._looks.pop(key, None)) is not None:
            look.set()

    def _delay(self, key: K) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        seconds = min(FIRST_DELAY_SECONDS * 2 ** (failures - 1), LAST_DELAY_SECONDS)
        return float(seconds * (1 - JITTER * self._chance()))
