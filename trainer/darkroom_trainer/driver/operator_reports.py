"""What a run tells the operator: the driver's snapshots, plan and result in the words of the API."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from darkroom_api import status
from darkroom_api.integrity import IntegrityError, read_manifest
from darkroom_api.job import PersonalizationJob
from darkroom_api.names import MANIFEST_FILE, VOLUMES_ENV
from darkroom_api.registry import RegistryEntry
from darkroom_api.report import Failure, ProgressReport, RunPhase
from darkroom_api.times import format_time, utc_now
from darkroom_trainer.driver.operator_client import ProgressClient
from darkroom_trainer.driver.plan import TrainingPlan
from darkroom_trainer.driver.run import Prepared
from darkroom_trainer.output.checkpoint import checkpoint_folder, newest_step
from darkroom_trainer.progress.snapshot import Progress

PATIENCE_S: Final = 30.0
"""How long the end of a run waits for its last report: longer than operators take to change leaders."""

INTERRUPTED_PATIENCE_S: Final = 5.0
"""The same for a run that was told to go: its pod may have little time left."""

FAILURE_LENGTH: Final = 1024
"""Most characters of why a checkpoint could not be written."""


class Reports:
    """Tells the operator of one run; of nothing where there is no operator."""

    def __init__(
        self, job: PersonalizationJob, run_folder: Path, client: ProgressClient | None
    ) -> None:
        """Until the run is prepared its step is that of its newest checkpoint."""
        self._client, self._run_folder = client, run_folder
        step = newest_step(run_folder, job.metadata)
        self._report = ProgressReport.of(
            phase=RunPhase.STARTING,
            start_step=step,
            step=step,
            max_steps=job.spec.training.max_steps,
            time=format_time(utc_now()),
        )

    @property
    def step(self) -> int:
        """The step that was told last."""
        return self._report.step

    def unwanted(self) -> bool:
        """Whether the operator wants nothing of this run any more, not even a checkpoint."""
        return self._client is not None and self._client.unwanted

    def prepared(self, prepared: Prepared) -> None:
        """Tells the plan, and the checkpoint that the run continues from."""
        step = prepared.resumed_from
        self._tell(
            plan=_plan(prepared.plan),
            start_step=step or 0,
            step=step or 0,
            checkpoint=None if step is None else _checkpoint(self._run_folder, step),
        )

    def progress(self, snapshot: Progress) -> None:
        """Tells a snapshot."""
        eta_s, saved = snapshot.eta_seconds, snapshot.last_checkpoint_step
        checkpoint = self._report.checkpoint
        if saved is not None and (checkpoint is None or checkpoint.step != saved):
            checkpoint = _checkpoint(self._run_folder, saved) or checkpoint
        self._tell(
            phase=snapshot.phase,
            step=snapshot.step,
            done=snapshot.done,
            total=snapshot.total,
            eta_seconds=None if eta_s is None else math.ceil(eta_s),
            metrics=_metrics(snapshot),
            checkpoint=checkpoint,
            checkpoint_failure=_shortened(snapshot.checkpoint_failure),
        )

    def published(self, entry: RegistryEntry) -> None:
        """Tells the model; the last report."""
        self._tell(phase=RunPhase.FINISHED, model=_model(entry))
        self._close(PATIENCE_S)

    def failed(self, failure: Failure) -> None:
        """Tells why the run ended early; the last report."""
        self._tell(failure=failure)
        self._close(PATIENCE_S)

    def interrupted(self, failure: Failure) -> None:
        """Tells that the run was saved and ended; the last report."""
        self._tell(phase=RunPhase.INTERRUPTED, failure=failure)
        self._close(INTERRUPTED_PATIENCE_S)

    def _tell(self, **changes: object) -> None:
        now = format_time(utc_now())
        self._report = self._report.model_copy(update=changes | {"time": now})
        if self._client is not None:
            self._client.tell(self._report)

    def _close(self, patience_s: float) -> None:
        if self._client is not None:
            self._client.close(patience_s)


def _plan(plan: TrainingPlan) -> status.Plan:
    return status.Plan.of(
        world_size=plan.world_size,
        global_batch_size=plan.global_batch_size,
        zero_stage=plan.zero_stage,
        predicted_peak_memory_bytes=plan.predicted_peak_memory_bytes,
    )


def _metrics(snapshot: Progress) -> tuple[status.Metric, ...]:
    """The figures that are finite numbers: a decimal string has no word for others."""
    losses = snapshot.losses
    figures = {
        "loss": losses.total if losses else None,
        "instance_loss": losses.instance if losses else None,
        "prior_loss": losses.prior if losses else None,
        "learning_rate": snapshot.learning_rate,
        "grad_norm": snapshot.grad_norm,
        "loss_scale": snapshot.loss_scale,
        "skipped_steps": snapshot.skipped_steps,
        "images_per_second": snapshot.images_per_second,
    }
    return tuple(
        status.Metric(name=name, value=f"{value:.6g}")
        for name, value in figures.items()
        if value is not None and math.isfinite(value)
    )


def _checkpoint(run_folder: Path, step: int) -> status.CheckpointStatus | None:
    """The checkpoint of a step; None when a newer one has replaced it already."""
    folder = checkpoint_folder(run_folder, step)
    try:
        digest = read_manifest(folder).digest
        written_s = (folder / MANIFEST_FILE).stat().st_mtime
    except (IntegrityError, OSError):
        return None
    return status.CheckpointStatus.of(
        step=step,
        uri=_uri(folder),
        digest=digest,
        time=format_time(datetime.fromtimestamp(written_s, UTC)),
    )


def _model(entry: RegistryEntry) -> status.ModelStatus:
    files = read_manifest(entry.folder).files.values()
    return status.ModelStatus.of(
        uri=_uri(entry.folder),
        digest=entry.digest,
        size_bytes=sum(file.size_bytes for file in files),
    )


def _shortened(failure: str | None) -> str | None:
    return None if failure is None else failure[:FAILURE_LENGTH]


def _uri(path: Path) -> str:
    """A path in the words of a spec: `pvc://CLAIM/path` below the volumes, else `file:`."""
    volumes = os.environ.get(VOLUMES_ENV)
    if volumes and path.resolve().is_relative_to(Path(volumes).resolve()):
        return f"pvc://{path.resolve().relative_to(Path(volumes).resolve())}"
    return f"file:{path}"
