"""`darkroom doctor`: what this machine lacks, and how to get it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from darkroom.console import print_json, print_table
from darkroom.options import JsonOption, examples

if TYPE_CHECKING:
    from darkroom.checks import Check

EXAMPLES = examples(
    "darkroom doctor",
    "darkroom doctor --json",
)


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine lacks.

    Looks at what training and serving need, and says how to get what is missing. Exits with 1 when
    something is missing that can't be done without.
    """
    from darkroom.checks import run_checks

    checks = run_checks(Path.cwd())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_table(("", "", ""), [_row(check) for check in checks])
    if any(check.needed and not check.ok for check in checks):
        raise typer.Exit(1)


def _row(check: "Check") -> tuple[str, str, str]:
    if check.ok:
        return check.name, "ok", check.detail
    mark = "MISSING" if check.needed else "without"
    return check.name, mark, f"{check.detail}; {check.fix}"
