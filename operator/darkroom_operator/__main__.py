"""The operator's process: `python -m darkroom_operator`. Everything is set by the environment (`settings`)."""

import asyncio
import logging
import os
import signal
import sys

import kopf

from darkroom_operator.handlers import kopf_settings, new_registry
from darkroom_operator.process import Process, new_process
from darkroom_operator.settings import Settings, SettingsError, read_settings

logger = logging.getLogger("darkroom_operator")


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
    return asyncio.run(serve(settings))


async def serve(settings: Settings) -> int:
    """Runs one process. It ends with 0 when it was told to, with 1 when a part of it died."""
    async with new_process(settings) as process:
        told, stop_watching, watching = asyncio.Event(), asyncio.Event(), asyncio.Event()
        work = asyncio.create_task(process.run(), name="work")
        watch = asyncio.create_task(_watch(process, stop_watching, watching), name="watch")
        await asyncio.wait(
            {work, watch, asyncio.create_task(watching.wait())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        # After kopf's own handlers: they would end the watches before the Lease is released.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        asked = asyncio.create_task(told.wait(), name="signal")
        ended, _ = await asyncio.wait({work, watch, asked}, return_when=asyncio.FIRST_COMPLETED)
        await process.retire()
        stop_watching.set()
        work.cancel()
        results = await asyncio.gather(work, watch, return_exceptions=True)
    if asked in ended:
        return 0
    logger.error("a part of the operator ended: %s", results)
    return 1


async def _watch(process: Process, stop: asyncio.Event, ready: asyncio.Event) -> None:
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
