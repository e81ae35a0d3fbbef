"""Shows jobs of a cluster while they change: a table or a bar on a terminal, lines elsewhere."""

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from darkroom.cluster import states
from darkroom.console import print_json
from darkroom.plan_view import duration
from darkroom_api.status import Reason

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from darkroom.cluster.jobs import Change
    from darkroom_api.job import PersonalizationJob

COLUMNS: Final = ("name", "status", "step", "loss", "time left", "attempt", "age")

DELETED: Final = "deleted"


class WatchView(Protocol):
    """Shows what a watch says."""

    def show(self, change: "Change") -> None:
        """Shows how a job is now."""

    def close(self) -> None:
        """Gives the terminal back."""


class Watched(Enum):
    """What is watched."""

    ONE = "one job"
    NAMESPACE = "the jobs of a namespace"
    EVERYWHERE = "the jobs of all namespaces"


def watch_view(console: "Console", what: Watched, *, as_json: bool) -> WatchView:
    """A bar for one job and a table for all of them; lines where nobody sees them move."""
    if as_json:
        return JsonView()
    if not console.is_terminal:
        return LineView(console, what)
    return BarView(console) if what is Watched.ONE else TableView(console, what)


def title(job: "PersonalizationJob", what: Watched) -> str:
    """What a job is called among those that are watched."""
    metadata = job.metadata
    everywhere = what is Watched.EVERYWHERE
    return f"{metadata.namespace}/{metadata.name}" if everywhere else metadata.name


def row(job: "PersonalizationJob", what: Watched) -> tuple[str, ...]:
    """A job in the table's columns."""
    progress, attempt = states.status_of(job).progress, states.newest_attempt(job)
    eta = progress.eta_seconds if progress is not None else None
    born = states.created(job)
    unsaved = f" ({Reason.CHECKPOINT_FAILED.value})" if states.unsaved(job) is not None else ""
    return (
        title(job, what),
        f"{states.word(job).value}{unsaved}",
        states.step_of(job),
        states.metric(progress, "loss"),
        "" if eta is None or states.is_over(job) else duration(eta),
        attempt.name.rpartition("-")[2] if attempt is not None else "",
        duration(states.age(born)) if born is not None else "",
    )


def line(change: "Change", what: Watched) -> str:
    """A job in a line of text."""
    job = change.job
    if change.deleted:
        return f"{title(job, what)}: {DELETED}"
    name, status, step, loss, left, *_ = row(job, what)
    figures = [f"loss {loss}" if loss else "", f"{left} left" if left else ""]
    more = "".join(f", {one}" for one in figures if one)
    why = "; ".join(one for one in (states.message(job), states.unsaved(job)) if one)
    return f"{name}: {status}, step {step}{more}{f': {why}' if why else ''}"


class TableView:
    """A table of all jobs that is drawn anew with each change."""

    def __init__(self, console: "Console", what: Watched) -> None:
        from rich.live import Live

        self._what = what
        self._jobs: dict[tuple[str, str], PersonalizationJob] = {}
        # Ages and changes are drawn when the next change arrives or a second has passed.
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=1)
        self._live.start()

    def show(self, change: "Change") -> None:
        """Draws the table with a job as it is now."""
        metadata = change.job.metadata
        jobs = dict(self._jobs)  # the drawing thread may be looking at the old one
        jobs.pop(key := (metadata.namespace, metadata.name), None)
        self._jobs = jobs if change.deleted else {**jobs, key: change.job}
        self._live.refresh()

    def close(self) -> None:
        """Leaves the last table."""
        self._live.stop()

    def _table(self) -> "Table":
        return _table(row(job, self._what) for _, job in sorted(self._jobs.items()))


def _table(rows: "Iterable[tuple[str, ...]]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, overflow="fold", header_style="bold")
    for cells in rows:
        table.add_row(*map(Text, cells))
    if not table.row_count:
        table.add_row(Text("no jobs: darkroom apply FILE"))
    return table


class BarView:
    """One job's progress as a bar."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description:<16}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
        )
        self._task = self._bars.add_task("Pending", total=None, figures="")
        self._said = ""

    def show(self, change: "Change") -> None:
        """Draws the bar; a new status is said above it."""
        self._bars.start()  # not before there is a job to show
        job = change.job
        _, status, _, loss, left, *_ = row(job, Watched.ONE)
        if (said := DELETED if change.deleted else status) != self._said:
            self._bars.console.print(line(change, Watched.ONE), markup=False, soft_wrap=True)
            self._said = said
        progress = states.status_of(job).progress
        figures = [f"loss {loss}" if loss else "", f"{left} left" if left else ""]
        self._bars.update(
            self._task,
            description=said,
            completed=progress.step if progress is not None else 0,
            total=job.spec.training.max_steps,
            figures=", ".join(one for one in figures if one),
        )

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bars.stop()


class LineView:
    """A line whenever something of a job has changed that the line says."""

    def __init__(self, console: "Console", what: Watched) -> None:
        self._console, self._what = console, what
        self._last: dict[str, str] = {}

    def show(self, change: "Change") -> None:
        """Prints a line, unless it is the last one again."""
        text, name = line(change, self._what), title(change.job, self._what)
        if self._last.get(name) != text:
            self._last[name] = text
            self._console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is held."""


class JsonView:
    """A JSON object a line, for programs."""

    def show(self, change: "Change") -> None:
        """Prints a job as it is now."""
        print_json(states.snapshot(change.job) | {"deleted": change.deleted})

    def close(self) -> None:
        """Nothing is held."""
