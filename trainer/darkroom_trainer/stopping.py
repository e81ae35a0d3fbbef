"""The `stop` file: how a driver asks the workers of a run to save and return."""

from pathlib import Path

from darkroom_api.run_layout import STOP_FILE


def request_stop(run_folder: Path) -> None:
    """Asks for a checkpoint and an early end; safe inside a signal handler, and an empty file fits on a full disk."""
    (run_folder / STOP_FILE).touch()


def stop_requested(run_folder: Path) -> bool:
    """Whether somebody asked."""
    return (run_folder / STOP_FILE).exists()


def clear_stop(run_folder: Path) -> None:
    """Forgets an earlier request; called before a run starts."""
    (run_folder / STOP_FILE).unlink(missing_ok=True)
