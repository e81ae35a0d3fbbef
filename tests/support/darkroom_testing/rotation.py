"""Exhaustive tests take turns: each run has one part of them, which the commit chooses.

`exhaustive` marks the tests that are exhaustive by nature: every fault at every write, every case of
a matrix. A row or two of each group go without the mark and stand in every run. The others of a file
are dealt to the parts like cards, so that no run has many of the slow ones. With `proven=False` a test
has no turn: it has not passed yet, and runs by name and in `make test-exhaustive` only.
"""

import hashlib
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

PARTS: Final = 32
"""Parts of the exhaustive tests: each adds about five minutes to a run, most of them for a row on the node tier."""

MARK: Final = "exhaustive"
UNPROVEN: Final = pytest.mark.exhaustive(proven=False)
"""Of a test that has not passed yet."""

HELP: Final = (
    "which exhaustive tests run: all, none, part K of N, or auto: the part that the commit chooses,"
    " and all of what is asked for by name (FILE::TEST, -k, --last-failed)"
)


@dataclass(frozen=True)
class Turn:
    """Which exhaustive tests run, and why: one part of so many, all (1 of 1), or none (0 of 1)."""

    part: int
    parts: int
    why: str

    @property
    def name(self) -> str:
        """As the output calls it."""
        if self.parts == 1:
            return "all" if self.part else "none"
        return f"part {self.part} of {self.parts}"


def parts_of(node_ids: Iterable[str], parts: int) -> dict[str, int]:
    """The part of each test, from 1: a file's tests one after another, from a part that its name chooses."""
    dealt: dict[str, int] = defaultdict(int)
    found = {}
    for node_id in node_ids:
        file = node_id.partition("::")[0]
        first = int.from_bytes(hashlib.sha256(file.encode()).digest())
        found[node_id] = (first + dealt[file]) % parts + 1
        dealt[file] += 1
    return found


def turn_of_commit(commit: str, why: str) -> Turn:
    """The part whose turn it is at a commit."""
    return Turn(int(commit, 16) % PARTS + 1, PARTS, why)


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
        return Turn(int(option == "all"), 1, why)
    part, _, parts = option.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise ValueError(f"{why}: use auto, all, none, or K/N with K from 1 to N")
    return Turn(int(part), int(parts), why)


def choose(config: pytest.Config) -> Turn:
    """The turn of this run."""
    option = config.getoption("--exhaustive")
    if option != "auto":
        return turn_of_option(option)
    if config.option.keyword or config.option.lf or any("::" in one for one in config.args):
        return Turn(1, 1, "asked for by name")
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
        marks = {item.nodeid: mark for item in items if (mark := item.get_closest_marker(MARK))}
        if self._turn.name == "all":
            resting: set[str] = set()
        else:
            proven = [name for name, mark in marks.items() if mark.kwargs.get("proven", True)]
            parts = parts_of(proven, self._turn.parts)
            resting = {name for name in marks if parts.get(name) != self._turn.part}
        self._known, self._running = len(marks), len(marks) - len(resting)
        if resting:
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid in resting])
            items[:] = [item for item in items if item.nodeid not in resting]

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
    config.addinivalue_line("markers", f"{MARK}(proven=True): runs in one of {PARTS} runs")
    try:
        turn = choose(config)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(Rotation(turn), "darkroom-rotation")
