"""Options that several commands share, and the examples below each command's help."""

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_URL: Final = "http://127.0.0.1:8000"
"""Where `darkroom serve` listens unless told otherwise."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]

UrlOption = Annotated[
    str, typer.Option("--url", envvar="DARKROOM_URL", help="Where darkroom serve listens.")
]

RegistryOption = Annotated[
    Path,
    typer.Option(
        "--registry", envvar="DARKROOM_REGISTRY", help="Root folder of the model registry."
    ),
]


def examples(*lines: str) -> str:
    """The epilog of a command: each line is something to type, with a remark behind `#`."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
