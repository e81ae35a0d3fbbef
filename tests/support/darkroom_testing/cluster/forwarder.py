"""Carries connections from a port of the machine into a cluster's network namespace.

Its listening socket belongs to the network it was made in; all sockets that it makes after it
entered the namespace belong to that one. `python -m darkroom_testing.cluster.forwarder FD NETNS PORT`.
"""

import asyncio
import ctypes
import os
import socket
import sys
from contextlib import suppress

CLONE_NEWNET = 0x40000000


def _enter(network: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(network, os.O_RDONLY)
    if libc.setns(descriptor, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"cannot enter {network}: {os.strerror(error)}")
    os.close(descriptor)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    try:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:  # the apiserver is down: so is the connection
        writer.close()
        return
    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
    for one in (writer, inner_writer):
        one.close()


async def _serve(listener: socket.socket, port: int) -> None:
    server = await asyncio.start_server(
        lambda reader, writer: _forward(reader, writer, port), sock=listener
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """Forwards until it is stopped."""
    descriptor, network, port = sys.argv[1:]
    listener = socket.socket(fileno=int(descriptor))
    _enter(network)
    asyncio.run(_serve(listener, int(port)))


if __name__ == "__main__":
    main()
