"""The command `darkroom` and the Python client: `from darkroom import Client`.

Importing this costs nothing: the client is loaded when its name is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darkroom.client import AsyncClient, Client
    from darkroom.wire import DarkroomError, GeneratedImage, Prediction

__all__ = ["AsyncClient", "Client", "DarkroomError", "GeneratedImage", "Prediction"]

_CLIENTS = ("AsyncClient", "Client")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'darkroom' has no attribute {name!r}")
    if name in _CLIENTS:
        from darkroom import client

        return getattr(client, name)
    from darkroom import wire

    return getattr(wire, name)
