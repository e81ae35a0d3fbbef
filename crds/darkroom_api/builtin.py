"""Finds what `builtin:` URIs name: the miniature, its classifier and the mascot's pictures."""

import os
import sysconfig
from pathlib import Path
from typing import Final

from darkroom_api.names import BUILTIN_DIR_ENV

_FOLDERS: Final = {"miniature": "base", "classifier": "classifier", "mascot": "mascot"}


def builtin_folder(name: str) -> Path:
    """Folder of the files behind `builtin:NAME`.

    Raises LookupError for an unknown name and FileNotFoundError when the files are not installed.
    """
    if name not in _FOLDERS:
        raise LookupError(f"builtin:{name} is unknown; there are {', '.join(sorted(_FOLDERS))}")
    for root in _roots():
        folder = root / _FOLDERS[name]
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"the files of builtin:{name} are not installed: reinstall darkroom, or set {BUILTIN_DIR_ENV}"
    )


def _roots() -> tuple[Path, ...]:
    if override := os.environ.get(BUILTIN_DIR_ENV):
        return (Path(override),)
    checkout = Path(__file__).parents[2] / "miniature"
    installed = Path(sysconfig.get_path("data")) / "share" / "darkroom" / "miniature"
    return (checkout, installed)
