"""Errors that the command explains in a line or two instead of with a traceback."""

from pathlib import Path


class CommandError(Exception):
    """A command can't do what it was asked; the message names what is wrong and the fix."""


def explanation(error: Exception) -> str | None:
    """What to say about an error that speaks to the user; None for one that is a fault of ours."""
    if isinstance(error, ModuleNotFoundError) and error.name:  # the command alone was installed
        return f"{error.name} is not installed; run make setup (darkroom doctor looks for the rest)"
    if _folder_is_gone():
        what = "" if isinstance(error, FileNotFoundError) else f"{error}\n"
        return f"{what}the current folder was removed: go to another one with cd, and repeat"
    return str(error) if isinstance(error, _expected_errors()) else None


def _folder_is_gone() -> bool:
    """Whether the folder was removed that the command was started in: no relative path leads anywhere."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _expected_errors() -> tuple[type[Exception], ...]:
    """Imported late, because only a failed command needs them."""
    from darkroom.wire import DarkroomError
    from darkroom_api.integrity import IntegrityError
    from darkroom_api.load import JobFileError
    from darkroom_trainer.errors import TrainerError

    return (CommandError, DarkroomError, IntegrityError, JobFileError, TrainerError)
