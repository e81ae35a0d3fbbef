"""Shows the figures of a benchmark to a person."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table


def show(title: str, figures: Mapping[str, float]) -> None:
    """Prints a table."""
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:g}")
    Console().print(table)
