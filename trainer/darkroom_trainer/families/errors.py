"""The refusal of a base model: what is wrong with it, and the fix."""

from typing import Final

from darkroom_api.status import Reason
from darkroom_trainer.errors import TrainerError

_FIX: Final = "use a complete model in diffusers' layout"


class UnusableBaseError(Exception):
    """What is wrong with a folder, in words; `of` makes it a TrainerError that names the field."""

    def __init__(self, what: str, fix: str = _FIX) -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def of(self, uri: str) -> TrainerError:
        """The error of a job whose base model has that URI."""
        return TrainerError(
            Reason.BASE_MODEL_UNUSABLE,
            f"spec.baseModel.uri: {uri} can't be personalised: {self.what}",
            self.fix,
        )
