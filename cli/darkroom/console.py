"""What the commands print with: text for people, JSON for programs. Rich is loaded when it is used."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

LOG_COLUMNS: Final = 120
"""Width of tables where there is no terminal."""


def open_streams() -> None:
    """Lets everything be printed: streams that are closed swallow it, and an encoding such as ASCII escapes it."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper) and name != "stdin":
            stream.reconfigure(errors="backslashreplace")


def quiet_libraries() -> None:
    """Before they are imported, and for processes below this one: their remarks and bars would tear ours."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def say(text: str) -> None:
    """Prints lines of a result."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Prints an error or a warning."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Prints a JSON value on one line, for a program."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def rich_console() -> "Console":
    """For tables and bars, on the standard output; logs and pipes have wide lines."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else LOG_COLUMNS)


@contextmanager
def progress_bar(
    total: int, count: "type[ProgressColumn]", *, quiet: bool
) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, with a column that counts what is done; yields what advances it."""
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

    console = rich_console()
    with Progress(
        BarColumn(),
        count(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table without lines; a terminal's width is kept, nothing is cut off."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold", header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    rich_console().print(table)
