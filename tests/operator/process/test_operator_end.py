"""What the log says when the process ends."""

import asyncio

import uvloop

from darkroom_operator.__main__ import report


async def stubborn():
    """As those of kopf's watches, it can't be closed when the loop ends."""
    try:
        yield
    except GeneratorExit:
        yield


def ended(caplog, handler):
    """What is logged at the end of a loop in which a generator was left open and a callback failed."""
    left_open = stubborn()

    async def work():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(handler)
        loop.call_soon(lambda: 1 / 0)
        await anext(left_open)

    caplog.clear()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
    return caplog.text


def test_generators_that_kopf_left_open_are_no_news(caplog):
    assert "asynchronous generator" in ended(caplog, None)
    log = ended(caplog, report)
    assert "asynchronous generator" not in log
    assert "division by zero" in log
