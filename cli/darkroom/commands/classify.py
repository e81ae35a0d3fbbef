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

    Asks a server that darkroom serve started. A picture that can't be classified does not keep the
    others from it; the exit code is 1 then.
    """
    from darkroom.client import Client

    found: list[tuple[Path, list[Prediction]]] = []
    refused: list[str] = []
    with Client(url) as client:
        for file in files:
            try:
                found.append((file, _ask(client, file, top_k)))
            except CommandError as error:
                refused.append(str(error))
    _show(found, as_json=as_json)
    if refused:
        raise CommandError("\n".join(refused))


def _show(found: "list[tuple[Path, list[Prediction]]]", *, as_json: bool) -> None:
    if as_json:
        for file, predictions in found:
            labels = [{"label": one.label, "score": one.score} for one in predictions]
            print_json({"file": str(file), "predictions": labels})
    elif found:
        print_table(
            ("file", "label", "score"),
            [
                ("" if number else str(file), one.label, f"{one.score:.1%}")
                for file, predictions in found
                for number, one in enumerate(predictions)
            ],
        )


def _read(file: Path) -> bytes:
    with explained(file, "read"):
        return file.read_bytes()


def _ask(client: "Client", file: Path, top_k: int) -> "list[Prediction]":
    from darkroom.wire import DarkroomError

    content = _read(file)
    try:
        return client.classify(content, top_k)
    except DarkroomError as error:
        if error.status is None:  # the server, not the picture
            raise
        raise CommandError(f"{file}: {error.message}") from error
