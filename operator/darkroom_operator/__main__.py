"""The operator's process: `python -m darkroom_operator`. Everything is set by the environment (`settings`)."""

import asyncio
import gc
import logging
import os
import signal
import sys
from typing import Any, Final

import kopf
import uvloop

from darkroom_operator.cluster.outages import ToldAlready
from darkroom_operator.process import Process, new_process
from darkroom_operator.settings import Settings, SettingsError, read_settings
from darkroom_operator.watches import kopf_settings, new_registry

logger = logging.getLogger("darkroom_operator")

YOUNG_OBJECTS: Final = 20_000
"""Objects that Python makes between two searches for garbage. By default 700, with which it takes two and
a half times as long to parse a list: all of its objects are in use, and searched again and again."""


def main() -> int:
    """Runs the operator until SIGTERM; returns the exit status."""
    logging.basicConfig(
        level=os.environ.get("DARKROOM_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    logging.getLogger("kopf.objects").setLevel(
        logging.WARNING
    )  # one line for each event of a watch
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(f"darkroom-operator: {error}", file=sys.stderr)
        return 2
    gc.freeze()  # what was imported stays
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings))
    except kopf.LoginError as error:
        print(f"darkroom-operator: {error}", file=sys.stderr)
        return 2


async def serve(settings: Settings) -> int:
    """Runs one process. It ends with 0 when it was told to, with 1 when a part of it died."""
    asyncio.get_running_loop().set_exception_handler(report)
    async with new_process(settings) as process:
        for handler in logging.getLogger().handlers:
            handler.addFilter(ToldAlready(process.tells_of))
        told, stop_watching, watching = asyncio.Event(), asyncio.Event(), asyncio.Event()
        _listen(told)
        asked = asyncio.create_task(told.wait(), name="signal")
        work = asyncio.create_task(process.run(), name="work")
        watch = asyncio.create_task(_watch(process, stop_watching, watching), name="watch")
        await asyncio.wait(
            {work, watch, asked, asyncio.create_task(watching.wait())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        # In place of kopf's own handlers: they would end the watches before the Lease is released.
        _listen(told)
        ended, _ = await asyncio.wait({work, watch, asked}, return_when=asyncio.FIRST_COMPLETED)
        await process.retire()
        stop_watching.set()
        work.cancel()
        if not process.synced.is_set():
            watch.cancel()
        results = await asyncio.gather(work, watch, return_exceptions=True)
    if asked in ended:
        return 0
    logger.error("a part of the operator ended: %s", results)
    return 1


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Says what failed in a callback; not what becomes of generators that kopf left open at the end.

    Python closes those of its watches together with what they are in the midst of, and fails at that.
    """
    if "asyncgen" not in context:
        loop.default_exception_handler(context)


def _listen(told: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)


async def _watch(process: Process, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Watches once everything is known: kopf hands each object on anew, one by one."""
    await process.synced.wait()
    await kopf.operator(
        registry=new_registry(process),
        settings=kopf_settings(process.settings),
        standalone=True,
        clusterwide=not process.settings.namespaces,
        namespaces=process.settings.namespaces,
        stop_flag=stop,
        ready_flag=ready,
    )


if __name__ == "__main__":
    sys.exit(main())
