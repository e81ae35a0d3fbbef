"""How a run's progress looks, on a terminal and in a log."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from darkroom.plan_view import duration
from darkroom.progress_view import BarView, LineView, figures, progress_view
from darkroom_trainer.progress.snapshot import Losses, Phase, Progress


def snapshot(phase, step=0, **fields):
    return Progress(
        phase=phase, step=step, max_steps=100, time=datetime(2026, 1, 1, tzinfo=UTC), **fields
    )


RUN = (
    snapshot(Phase.STARTING),
    snapshot(Phase.CLASS_IMAGES, done=2, total=8),
    snapshot(Phase.CACHING, done=1, total=4),
    snapshot(
        Phase.TRAINING,
        step=50,
        losses=Losses(total=0.3, instance=0.2, prior=0.1),
        images_per_second=42.0,
        eta_seconds=65,
    ),
    snapshot(Phase.CHECKPOINTING, step=50),
    snapshot(Phase.TRAINING, step=51),
    snapshot(Phase.EXPORTING, step=100, conditions=("a checkpoint could not be written",)),
    snapshot(Phase.FINISHED, step=100),
)


@pytest.fixture
def log():
    return Console(file=io.StringIO(), width=100)


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)


def test_a_log_gets_a_line_a_phase(log):
    view = progress_view(log)
    assert isinstance(view, LineView)
    for progress in RUN:
        view.show(progress)
    view.close()
    lines = log.file.getvalue().splitlines()
    assert lines[:3] == ["starting workers", "class images 2/8", "caching latents 1/4"]
    assert "training 50/100: loss 0.3000 (instance 0.2000, prior 0.1000), 42.0 images/s" in lines[3]
    assert "warning: a checkpoint could not be written" in lines
    assert lines[-1] == "exporting"


def test_a_long_phase_takes_about_ten_lines_in_a_log(log):
    view = LineView(log)
    for step in range(101):
        view.show(snapshot(Phase.TRAINING, step=step))
    assert len(log.file.getvalue().splitlines()) == 11


def test_a_terminal_gets_a_bar_for_each_phase(terminal):
    view = progress_view(terminal)
    assert isinstance(view, BarView)
    for progress in RUN:
        view.show(progress)
    view.close()
    text = terminal.file.getvalue()
    for title in ("class images", "caching latents", "training", "checkpoint", "exporting"):
        assert title in text
    assert "8/8" in text  # snapshots are rarer than pieces of work: a phase that is over is full
    assert "100/100" in text
    assert text.count("warning: a checkpoint could not be written") == 1


def test_figures_hold_what_is_known():
    assert figures(RUN[0]) == ""
    assert figures(RUN[3]).endswith("42.0 images/s, 1 min 5 s left")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (7500, "2 h 5 min")],
)
def test_durations_are_short(seconds, words):
    assert duration(seconds) == words
