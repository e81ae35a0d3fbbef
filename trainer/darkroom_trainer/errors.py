"""What can go wrong in a training run, in words for the person who started it."""

from darkroom_api.status import Reason


class TrainerError(ValueError):
    """A run can't start or can't go on.

    `reason` is for programs, `message` names the field or file that is wrong,
    `fix` says what to do. Survives pickling, so a worker's error reaches the driver whole.
    """

    def __init__(self, reason: Reason, message: str, fix: str) -> None:
        super().__init__(reason, message, fix)
        self.reason = reason
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}"
