"""How a run ended. Imports no torch: the driver and the command read it."""

from dataclasses import dataclass
from enum import StrEnum


class RunStatus(StrEnum):
    """How a run ended."""

    FINISHED = "Finished"
    INTERRUPTED = "Interrupted"


@dataclass(frozen=True)
class WorkerResult:
    """How a worker's run ended; the same on every rank."""

    status: RunStatus
    step: int

    model_digest: str | None = None
    """The published model, when finished."""
