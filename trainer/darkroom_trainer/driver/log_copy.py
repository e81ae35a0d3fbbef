"""Shows what the driver prints where people look for it: in its pod's log, beside Ray's own log of it."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

from darkroom_api.names import LOG_COPY_ENV


class _Copied:
    """A stream whose text goes to a second one, too; the second may fail."""

    def __init__(self, stream: TextIO, copy: TextIO) -> None:
        self._stream, self._copy = stream, copy

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._copy.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def copy_output() -> None:
    """Copies standard output and error, line by line, to the file that `DARKROOM_LOG_COPY` names.

    In a pod that is the output of its first process, which is what kubelet keeps.
    """
    path = os.environ.get(LOG_COPY_ENV)
    if not path:
        return
    try:
        copy = Path(path).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - to the end
    except OSError as error:
        print(f"the pod's log lacks the driver's output: {error}", file=sys.stderr)
        return
    sys.stdout = cast(TextIO, _Copied(sys.stdout, copy))
    sys.stderr = cast(TextIO, _Copied(sys.stderr, copy))
