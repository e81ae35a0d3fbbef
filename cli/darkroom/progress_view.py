"""Shows a run's progress: a bar for each phase on a terminal, now and then a line elsewhere."""

from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from darkroom.plan_view import duration

if TYPE_CHECKING:
    from darkroom_trainer.progress.snapshot import Progress

TITLES: Final = {
    "Starting": "starting workers",
    "ClassImages": "class images",
    "Caching": "caching latents",
    "Training": "training",
    "Validating": "validation grid",
    "Checkpointing": "checkpoint",
    "Exporting": "exporting",
}
"""What each phase is called; phases that only say how a run ended have no title."""

LINES_PER_PHASE: Final = 10
"""Lines about a counted phase where there is no terminal."""


class ProgressView(Protocol):
    """Shows snapshots of a run."""

    def show(self, progress: "Progress") -> None:
        """Shows a new snapshot."""

    def close(self) -> None:
        """Gives the terminal back."""


def progress_view(console: Console) -> ProgressView:
    """Bars on a terminal, lines elsewhere."""
    return BarView(console) if console.is_terminal else LineView(console)


def figures(progress: "Progress") -> str:
    """Loss, speed and time left, as far as they are known."""
    parts = []
    if progress.losses is not None:
        losses = progress.losses
        text = f"loss {losses.total:.4f}"
        if losses.prior is not None:
            text += f" (instance {losses.instance:.4f}, prior {losses.prior:.4f})"
        parts.append(text)
    if progress.images_per_second is not None:
        parts.append(f"{progress.images_per_second:.1f} images/s")
    if progress.eta_seconds is not None:
        parts.append(f"{duration(progress.eta_seconds)} left")
    return ", ".join(parts)


def count(progress: "Progress") -> tuple[int, int]:
    """How much of a phase is done, and of how much; 0 of 0 where it isn't counted."""
    if progress.phase.value == "Training":  # continues where it was after each checkpoint
        return progress.step, progress.max_steps
    return progress.done, progress.total


class BarView:
    """A bar for each phase; training's goes on after a checkpoint."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._current: str | None = None
        self._conditions: tuple[str, ...] = ()

    def show(self, progress: "Progress") -> None:
        """Draws the phase's bar; fills up the bar of the phase before."""
        self._bars.start()
        for condition in progress.conditions[len(self._conditions) :]:
            self._bars.console.print(f"[yellow]warning:[/] {escape(condition)}", soft_wrap=True)
        self._conditions = progress.conditions
        phase = progress.phase.value
        if phase != self._current:
            self._leave(progress)
            self._current = phase
        if phase not in TITLES:
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(TITLES[phase], total=None, figures="")
        done, total = count(progress)
        text = figures(progress) if phase == "Training" else ""
        self._bars.update(self._tasks[phase], completed=done, total=total or None, figures=text)

    def close(self) -> None:
        """Leaves the bars as they are."""
        self._bars.stop()

    def _leave(self, progress: "Progress") -> None:
        """Completes the bar of the phase before; snapshots are rarer than pieces of work."""
        if self._current not in self._tasks:
            return
        task = self._tasks[self._current]
        if self._current == "Training":
            self._bars.update(task, completed=progress.step, total=progress.max_steps)
        elif progress.phase.value != "Interrupted":
            total = self._bars.tasks[self._bars.task_ids.index(task)].total or 1
            self._bars.update(task, completed=total, total=total)


class LineView:
    """A line when a phase begins, and about ten in a long one: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: tuple[str, int] | None = None
        self._conditions: tuple[str, ...] = ()

    def show(self, progress: "Progress") -> None:
        """Prints a line when enough has changed."""
        for condition in progress.conditions[len(self._conditions) :]:
            self._print(f"warning: {condition}")
        self._conditions = progress.conditions
        phase = progress.phase.value
        done, total = count(progress)
        tenth = LINES_PER_PHASE * done // total if total else 0
        if phase not in TITLES or self._last == (phase, tenth):
            return
        self._last = (phase, tenth)
        counted = f" {done}/{total}" if total else ""
        text = figures(progress) if phase == "Training" else ""
        self._print(f"{TITLES[phase]}{counted}{': ' if text else ''}{text}")

    def close(self) -> None:
        """Nothing is held."""

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)
