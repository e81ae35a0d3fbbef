"""What a run tells the operator over HTTP: the body of `PUT /v1/jobs/NAMESPACE/NAME/attempts/N/progress`."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from darkroom_api.fields import ApiModel, Time
from darkroom_api.status import (
    CheckpointStatus,
    Count,
    Metric,
    ModelStatus,
    Plan,
    Reason,
    Steps,
)


class RunPhase(StrEnum):
    """What a run is doing, in the trainer's words."""

    STARTING = "Starting"
    CLASS_IMAGES = "ClassImages"
    CACHING = "Caching"
    TRAINING = "Training"
    VALIDATING = "Validating"
    CHECKPOINTING = "Checkpointing"
    EXPORTING = "Exporting"
    FINISHED = "Finished"
    INTERRUPTED = "Interrupted"


class Failure(ApiModel):
    """Why a run ended early, as it says itself."""

    reason: Reason
    """Why, in one word."""

    message: Annotated[str, StringConstraints(max_length=2048)]
    """Why, in a sentence for people."""


class ProgressReport(ApiModel):
    """How an attempt goes. Sent when something changed, a few times a minute at most."""

    phase: RunPhase
    """What the run is doing."""

    step: Steps
    """Optimizer steps done."""

    max_steps: Steps
    """Optimizer steps to do."""

    start_step: Steps = 0
    """Step of the checkpoint that the run continued from; 0 for a fresh start."""

    done: Count = 0
    """Pieces of the phase's work that are done."""

    total: Count = 0
    """Pieces of the phase's work; 0 when it isn't counted."""

    eta_seconds: Count | None = None
    """Expected time until the last step."""

    metrics: Annotated[tuple[Metric, ...], Field(max_length=16, strict=False)] = ()
    """Latest figures, such as `loss`, `learning_rate` and `images_per_second`."""

    checkpoint: CheckpointStatus | None = None
    """The newest complete checkpoint."""

    checkpoint_failure: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = (
        None
    )
    """Why the last checkpoint could not be written; absent once one is."""

    model: ModelStatus | None = None
    """The published model."""

    plan: Plan | None = None
    """What was worked out before the start."""

    failure: Failure | None = None
    """Why the run ended early; in its last report."""

    time: Time
    """When this was so."""
