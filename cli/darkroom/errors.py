"""Errors that the command explains in a line or two instead of with a traceback."""


class CommandError(Exception):
    """A command can't do what it was asked; the message names what is wrong and the fix."""


def expected_errors() -> tuple[type[Exception], ...]:
    """Every error that speaks to the user; imported late, because only a failed command needs them."""
    from darkroom.wire import DarkroomError
    from darkroom_api.integrity import IntegrityError
    from darkroom_api.load import JobFileError
    from darkroom_trainer.errors import TrainerError

    return (CommandError, DarkroomError, IntegrityError, JobFileError, TrainerError)
