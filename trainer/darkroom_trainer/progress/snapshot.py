"""Says how a run goes: rank 0 writes snapshots to `progress.json`, whoever shows progress reads them.

A snapshot replaces the file as a whole and is never forced to the disk: losing one costs nothing.
"""

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom_api.report import RunPhase

WRITE_INTERVAL_S: Final = 0.25
"""Snapshots within a phase are at least this far apart."""

RATE_DECAY: Final = 0.9
"""Weight of the past in the moving average of a step's duration."""


Phase = RunPhase
"""What a run is doing."""


class _Snapshot(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Losses(_Snapshot):
    """Losses of one optimizer step, averaged over its micro batches and all ranks."""

    total: float
    """Instance loss + lambda x prior loss."""

    instance: float
    """Mean squared error on instance images."""

    prior: float | None = None
    """Mean squared error on class images; absent without prior preservation."""


class Progress(_Snapshot):
    """One snapshot of a run."""

    phase: Phase
    """What the run is doing."""

    step: Annotated[int, Field(ge=0)]
    """Optimizer steps done."""

    max_steps: Annotated[int, Field(ge=1)]
    """Optimizer steps in all."""

    done: Annotated[int, Field(ge=0)] = 0
    """Pieces of the phase's work that are done (class images, pictures, steps)."""

    total: Annotated[int, Field(ge=0)] = 0
    """Pieces of the phase's work; 0 when it isn't counted."""

    losses: Losses | None = None
    """Losses of the last step."""

    images_per_second: float | None = None
    """Instance and class images through the UNet in a second, over all ranks."""

    eta_seconds: float | None = None
    """Time that the remaining steps will take."""

    learning_rate: float | None = None
    """Learning rate of the last step."""

    grad_norm: float | None = None
    """Norm of the last step's gradient before clipping; infinite where FP16 could not hold it."""

    loss_scale: float | None = None
    """What FP16's losses are multiplied by; absent in other precisions."""

    skipped_steps: int | None = None
    """Steps whose gradients FP16 could not hold: they changed nothing. Absent in other precisions."""

    class_images_made: Annotated[int, Field(ge=0)] = 0
    """Class images that this run generated."""

    class_images_reused: Annotated[int, Field(ge=0)] = 0
    """Class images that this run needs and found in the store."""

    last_checkpoint_step: int | None = None
    """Step of the last complete checkpoint."""

    checkpoint_failure: str | None = None
    """Why the newest checkpoint could not be written; None when it was."""

    conditions: tuple[str, ...] = ()
    """What the user should know: a checkpoint that could not be saved, say."""

    time: datetime
    """When the snapshot was taken, in UTC."""


def read_progress(path: Path) -> Progress | None:
    """The snapshot in a file, or None when there is none yet or it can't be read."""
    try:
        return Progress.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


class ProgressWriter:
    """Keeps the newest snapshot and writes it at a bounded rate; for rank 0 only.

    A change of phase is always written, a step or piece of work when the last write is old enough.
    """

    def __init__(self, path: Path, *, max_steps: int, step: int = 0) -> None:
        """Starts with `step` steps done (a resumed run)."""
        self._path = path
        self._written_s = float("-inf")
        self._written: Progress | None = None
        self._stepped_s: float | None = None
        self._step_duration_s: float | None = None
        self._latest = Progress(
            phase=Phase.STARTING, step=step, max_steps=max_steps, time=datetime.now(UTC)
        )
        self._record(urgent=True)

    @property
    def latest(self) -> Progress:
        """The newest snapshot, written or not."""
        return self._latest

    def enter(self, phase: Phase, total: int = 0) -> None:
        """Begins a phase of `total` pieces of work, or goes on with the steps of the training."""
        self._stepped_s = None
        done = self._latest.step if phase is Phase.TRAINING else 0
        self._record(urgent=True, phase=phase, done=done, total=total)

    def reuse_class_images(self, count: int) -> None:
        """Says how many of the class images are in the store already."""
        self._record(urgent=True, class_images_reused=count)

    def advance(self, done: int) -> None:
        """Says how many pieces of the phase's work are done."""
        made = self._latest.class_images_made
        if self._latest.phase is Phase.CLASS_IMAGES:
            made += max(0, done - self._latest.done)
        self._record(done=done, class_images_made=made)

    def step(
        self,
        step: int,
        *,
        losses: Losses,
        images: int,
        learning_rate: float,
        grad_norm: float,
        loss_scale: float | None = None,
        skipped_steps: int | None = None,
    ) -> None:
        """Says that `step` optimizer steps are done, the last of them over `images` images."""
        duration_s = self._measure_step()
        remaining = self._latest.max_steps - step
        self._record(
            phase=Phase.TRAINING,
            step=step,
            done=step,
            total=self._latest.max_steps,
            losses=losses,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            loss_scale=loss_scale,
            skipped_steps=skipped_steps,
            images_per_second=images / duration_s if duration_s else None,
            eta_seconds=remaining * duration_s if duration_s else None,
        )

    def checkpointed(self, step: int) -> None:
        """Says that the checkpoint of a step is complete."""
        self._record(urgent=True, last_checkpoint_step=step, checkpoint_failure=None)

    def not_checkpointed(self, step: int, failure: str) -> None:
        """Says why the checkpoint of a step could not be written."""
        why = f"{failure}: step {step} was not saved"
        conditions = (*self._latest.conditions, f"CheckpointFailed/{why}")
        self._record(urgent=True, checkpoint_failure=why, conditions=conditions)

    def flush(self) -> None:
        """Writes the newest snapshot, if it was held back."""
        if self._written != self._latest:
            self._write()

    def _measure_step(self) -> float | None:
        """Moving average of a step's duration; the first step of a phase is only its start."""
        now_s = time.monotonic()
        if self._stepped_s is not None:
            last_s = max(now_s - self._stepped_s, 1e-9)
            past_s = self._step_duration_s
            self._step_duration_s = (
                last_s if past_s is None else RATE_DECAY * past_s + (1 - RATE_DECAY) * last_s
            )
        self._stepped_s = now_s
        return self._step_duration_s

    def _record(self, *, urgent: bool = False, **changes: Any) -> None:
        self._latest = self._latest.model_copy(update=changes | {"time": datetime.now(UTC)})
        if urgent or time.monotonic() - self._written_s >= WRITE_INTERVAL_S:
            self._write()

    def _write(self) -> None:
        self._written_s = time.monotonic()
        partial = self._path.with_name(f".{self._path.name}.partial")
        with contextlib.suppress(OSError):  # a full disk must not end the run for a snapshot
            partial.write_text(self._latest.model_dump_json(), encoding="utf-8")
            partial.replace(self._path)
            self._written = self._latest
