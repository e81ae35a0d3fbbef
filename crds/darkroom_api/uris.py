"""Where the URIs of a spec point on this machine."""

import os
from pathlib import Path

from darkroom_api.builtin import builtin_folder
from darkroom_api.names import VOLUMES_ENV


class UnsupportedUriError(ValueError):
    """A URI whose scheme has no place on this machine's disk."""


def local_path(uri: str, job_folder: Path) -> Path:
    """The folder or file that a URI names on this machine; it need not exist.

    `file:` is relative to the job file; `pvc://CLAIM/path` is `CLAIM/path` below `DARKROOM_VOLUMES`
    (the current folder when unset), where a pod mounts its claims and a laptop keeps plain folders.

    Raises UnsupportedUriError for schemes that need a download.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "file":
        return (job_folder / rest).resolve()
    if scheme == "pvc":
        return (Path(os.environ.get(VOLUMES_ENV, ".")) / rest.removeprefix("//")).resolve()
    if scheme == "builtin":
        return builtin_folder(rest)
    raise UnsupportedUriError(f"{uri}: {scheme}: is not on this machine's disk")
