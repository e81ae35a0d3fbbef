"""`darkroom classify`: asks a running server what pictures show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.console import print_json, print_table
from darkroom.errors import CommandError
from darkroom.files import explained
from darkroom.options import DEFAULT_URL, JsonOption, UrlOption, examples

if TYPE_CHECKING:
    from darkroom.client import Client
    from darkroom.wire import Prediction

EXAMPLES = examples(
    "darkroom classify dog.png",
    "darkroom classify photos/*.jpg --top-k 1 --json",
)


def classify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Pictures.")],
    top_k: Annotated[int, typer.Option(min=1, help="Labels for each picture.")] = 5,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Say what pictures show.

    Asks a server that darkroom serve started.
    """
    from darkroom.client import Client

    pictures = {file: _read(file) for file in files}
    with Client(url) as client:
        found = {file: _ask(client, file, content, top_k) for file, content in pictures.items()}
    if as_json:
        for file, predictions in found.items():
            labels = [{"label": one.label, "score": one.score} for one in predictions]
            print_json({"file": str(file), "predictions": labels})
        return
    print_table(
        ("file", "label", "score"),
        [
            ("" if number else str(file), one.label, f"{one.score:.1%}")
            for file, predictions in found.items()
            for number, one in enumerate(predictions)
        ],
    )


def _read(file: Path) -> bytes:
    with explained(file, "read"):
        return file.read_bytes()


def _ask(client: "Client", file: Path, content: bytes, top_k: int) -> "list[Prediction]":
    from darkroom.wire import DarkroomError

    try:
        return client.classify(content, top_k)
    except DarkroomError as error:
        if error.status is None:  # the server, not the picture
            raise
        raise CommandError(f"{file}: {error.message}") from error
