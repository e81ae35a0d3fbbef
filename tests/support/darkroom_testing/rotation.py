"""Exhaustive tests take turns: each run has one part of them, which the commit chooses.

`exhaustive` marks the tests that are exhaustive by nature: every fault at every write, every case of
a matrix. A row or two of each group go without the mark and stand in every run. With `parts=None` a
test has no turn: it has not passed yet, and runs by name and in `make test-exhaustive` only.
"""

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

PARTS: Final = 12
"""Parts of the exhaustive tests: each adds a few minutes to a run; a mark may say another number."""

MARK: Final = "exhaustive"
UNPROVEN: Final = pytest.mark.exhaustive(parts=None)
"""Of a test that has not passed yet."""

HELP: Final = (
    "which exhaustive tests run: all, none, part K of N, or auto: the part that the commit chooses,"
    " and all of what is asked for by name (FILE::TEST, -k, --last-failed)"
)


@dataclass(frozen=True)
class Turn:
    """Which exhaustive tests run, in words and in deed."""

    name: str
    why: str
    includes: Callable[[str, int | None], bool]
    """Whether a test runs: its node id, and the number of parts of its group; None for no turn."""


def part_of(node_id: str, parts: int) -> int:
    """The part that a test belongs to, from 1, as long as it keeps its name."""
    return int.from_bytes(hashlib.sha256(node_id.encode()).digest()) % parts + 1


def turn_of_commit(commit: str, why: str) -> Turn:
    """The part whose turn it is at a commit."""
    number = int(commit, 16)

    def includes(node_id: str, parts: int | None) -> bool:
        return parts is not None and part_of(node_id, parts) == number % parts + 1

    return Turn(f"part {number % PARTS + 1} of {PARTS}", why, includes)


def head(folder: Path) -> str | None:
    """The commit of a checkout, also when it belongs to somebody else; None without git."""
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def turn_of_option(option: str) -> Turn:
    """The turn that `--exhaustive` names; ValueError for what is none."""
    why = f"--exhaustive={option}"
    if option in ("all", "none"):
        return Turn(option, why, lambda node_id, parts: option == "all")
    part, _, parts = option.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise ValueError(f"{why}: use auto, all, none, or K/N with K from 1 to N")
    return Turn(
        f"part {part} of {parts}",
        why,
        lambda node_id, _: part_of(node_id, int(parts)) == int(part),
    )


def choose(config: pytest.Config) -> Turn:
    """The turn of this run."""
    option = config.getoption("--exhaustive")
    if option != "auto":
        return turn_of_option(option)
    if config.option.keyword or config.option.lf or any("::" in one for one in config.args):
        return Turn("all", "asked for by name", lambda node_id, parts: True)
    commit = head(config.rootpath)
    if commit is None:
        return turn_of_commit("0", "git knows no commit here")
    return turn_of_commit(commit, f"commit {commit[:8]}")


class Rotation:
    """Deselects the exhaustive tests whose turn it is not."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._running = self._known = 0

    # Last: what -m and -k leave.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        runs: list[pytest.Item] = []
        rests: list[pytest.Item] = []
        known = 0
        for item in items:
            mark = item.get_closest_marker(MARK)
            known += mark is not None
            turn = mark is None or self._turn.includes(item.nodeid, mark.kwargs.get("parts", PARTS))
            (runs if turn else rests).append(item)
        self._known, self._running = known, known - len(rests)
        if rests:
            config.hook.pytest_deselected(items=rests)
            items[:] = runs

    def pytest_report_header(self) -> str:
        return f"exhaustive tests: {self._turn.name} ({self._turn.why})"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._known:
            terminalreporter.write_line(
                f"{self._turn.name} of the exhaustive tests ({self._turn.why}):"
                f" {self._running} of {self._known}; make test-exhaustive runs all"
            )


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.addoption("--exhaustive", default="auto", metavar="auto|all|none|K/N", help=HELP)


def pytest_configure(config: pytest.Config) -> None:
    """The mark, and the turn of this run."""
    config.addinivalue_line("markers", f"{MARK}(parts={PARTS}): runs in one of so many runs")
    try:
        turn = choose(config)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(Rotation(turn), "darkroom-rotation")
