"""What keeps a model from being imported, in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from darkroom_api.integrity import IntegrityError
from darkroom_api.status import Reason
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.families.errors import UnusableBaseError

_FIELD = "spec.baseModel.uri: "


def refusal(source: Path, what: str, fix: str) -> TrainerError:
    """The error of a source that can't be imported."""
    return TrainerError(Reason.BASE_MODEL_UNUSABLE, f"{source}: {what}", fix)


@contextmanager
def explained(source: Path) -> Iterator[None]:
    """Turns what is wrong with the files of a source into an error that names the source, not a job's field."""
    try:
        yield
    except UnusableBaseError as error:
        raise refusal(source, error.what, error.fix) from error
    except IntegrityError as error:
        raise refusal(source, error.why, "restore the files from where they came") from error
    except TrainerError as error:
        message = error.message.removeprefix(_FIELD)
        raise TrainerError(error.reason, message, error.fix) from error
