"""What a test run cost, at its end: the slowest tests, and the time and processor time of each folder.

A test's time holds that of the fixtures made for it first. Processor time is the whole machine's, since
most of what a test of Ray or of a cluster takes is in processes that nobody waits for: read it on a
machine that does nothing else.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import psutil
import pytest

SLOWEST: Final = 40
"""Tests that are listed."""

QUICK_SECONDS: Final = 1.0
"""What takes less is not listed: a run of quick tests has no table of them."""


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock and seconds of processors."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


def cpu_seconds() -> float:
    """What all processes of this machine have spent since it was started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def slowest(costs: dict[str, Cost], number: int = SLOWEST) -> list[str]:
    """A line for each of the slowest tests."""
    slow = [node_id for node_id in costs if costs[node_id].seconds >= QUICK_SECONDS]
    ordered = sorted(slow, key=lambda node_id: costs[node_id].seconds, reverse=True)[:number]
    return [
        f"{costs[node_id].seconds:8.1f} s {costs[node_id].cpu_seconds:8.1f} s CPU  {node_id}"
        for node_id in ordered
    ]


def folders(costs: dict[str, Cost]) -> list[str]:
    """A line for each folder, and one for all."""
    found: dict[str, list[Cost]] = defaultdict(list)
    for node_id, cost in costs.items():
        found[str(PurePosixPath(node_id.partition("::")[0]).parent)].append(cost)
    return [
        *(_folder(name, found[name]) for name in sorted(found)),
        _folder("all", list(costs.values())),
    ]


def _folder(name: str, costs: list[Cost]) -> str:
    total = sum(costs, Cost())
    return (
        f"{total.seconds / 60:8.1f} min {total.cpu_seconds:8.1f} s CPU {len(costs):6} tests  {name}"
    )


class Costs:
    """Measures each test, by the reports of its phases, and tells at the end."""

    def __init__(self) -> None:
        self._costs: dict[str, Cost] = defaultdict(Cost)
        self._cpu_seconds = cpu_seconds()

    def pytest_runtestloop(self) -> None:
        """What was collected has cost something: that is no test's."""
        self._cpu_seconds = cpu_seconds()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Where tests run beside each other, a test has the processor time since any other's report."""
        before, self._cpu_seconds = self._cpu_seconds, cpu_seconds()
        self._costs[report.nodeid] += Cost(report.duration, self._cpu_seconds - before)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The two tables."""
        for title, lines in (
            ("slowest tests", slowest(self._costs)),
            ("time by folder", folders(self._costs)),
        ):
            if lines:
                terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Measures every run."""
    config.pluginmanager.register(Costs(), "darkroom-costs")
