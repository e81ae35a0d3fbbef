"""A pytest plugin: an event loop whose time passes at once."""

import asyncio

import pytest


class VirtualLoop(asyncio.SelectorEventLoop):
    """When nothing is ready, it is already as late as the next timer wants it."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0

    def time(self):
        return self.seconds

    def _run_once(self):
        following = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        if not self._ready and following:
            self.seconds = max(self.seconds, min(following))
        super()._run_once()


@pytest.fixture
def virtual():
    """Runs a coroutine in virtual time: `virtual(coroutine)`."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(coroutine)

    return run
