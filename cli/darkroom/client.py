"""Clients of a darkroom server, synchronous and asynchronous."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self, Unpack

import httpx2

from darkroom import wire
from darkroom.options import DEFAULT_URL
from darkroom.wire import DarkroomError, GeneratedImage, ImageOptions, Prediction, Request

CONNECT_TIMEOUT_S: Final = 5.0
"""Longest wait for a connection."""

DEFAULT_TIMEOUT_S: Final = 600.0
"""Longest wait for an answer: on a CPU an image may take minutes."""


class Client:
    """Draws and classifies over HTTP; a context manager.

    Every method raises DarkroomError when the server refuses a request or can't be reached.
    """

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._http = httpx2.Client(timeout=_timeout(timeout_s))

    def generate(self, prompt: str, **options: Unpack[ImageOptions]) -> list[GeneratedImage]:
        """Draws images of a prompt: `generate("a photo of sks dog", model="rex", seed=7)`."""
        return wire.parse_images(self._send(wire.images_request(prompt, options)))

    def classify(self, image: bytes | str | Path, top_k: int = 5) -> list[Prediction]:
        """The likeliest labels of a picture (the bytes of a file, or its path), likeliest first."""
        return wire.parse_predictions(self._send(wire.classify_request(image, top_k)))

    def models(self) -> list[str]:
        """Ids of the models that can be used."""
        return wire.parse_models(self._send(wire.models_request()))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, request: Request) -> Any:
        with _explained(self._url):
            return _read(self._http.request(**_arguments(self._url, request)))


class AsyncClient:
    """As `Client`, with methods to await; an asynchronous context manager."""

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._http = httpx2.AsyncClient(timeout=_timeout(timeout_s))

    async def generate(self, prompt: str, **options: Unpack[ImageOptions]) -> list[GeneratedImage]:
        """Draws images of a prompt."""
        return wire.parse_images(await self._send(wire.images_request(prompt, options)))

    async def classify(self, image: bytes | str | Path, top_k: int = 5) -> list[Prediction]:
        """The likeliest labels of a picture (the bytes of a file, or its path), likeliest first."""
        return wire.parse_predictions(await self._send(wire.classify_request(image, top_k)))

    async def models(self) -> list[str]:
        """Ids of the models that can be used."""
        return wire.parse_models(await self._send(wire.models_request()))

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _send(self, request: Request) -> Any:
        with _explained(self._url):
            return _read(await self._http.request(**_arguments(self._url, request)))


def _timeout(timeout_s: float) -> httpx2.Timeout:
    return httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)


def _arguments(url: str, request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": url + request.path,
        "params": request.params,
        "json": request.json,
        "content": request.content,
    }


def _read(response: httpx2.Response) -> Any:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.is_error:
        raise wire.error_of(response.status_code, answer)
    return answer


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turns what goes wrong on the way into a DarkroomError."""
    try:
        yield
    except httpx2.ConnectError as error:
        raise DarkroomError(f"can't reach {url}: is darkroom serve running there?") from error
    except httpx2.TimeoutException as error:
        raise DarkroomError(f"{url} did not answer in time: {type(error).__name__}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise DarkroomError(f"the request to {url} failed: {error}") from error
