"""What a worker tells: rank 0 writes progress and feeds the trackers, the other ranks say nothing."""

from typing import Self

from darkroom_api.run_layout import PROGRESS_FILE
from darkroom_trainer.progress.snapshot import Losses, Phase, ProgressWriter
from darkroom_trainer.progress.trackers import Trackers
from darkroom_trainer.worker_task import WorkerTask


class Reporter:
    """Speaks for the run on rank 0; whichever way the run ends, its last step is told."""

    def __init__(self, task: WorkerTask, rank: int) -> None:
        spec = task.job.spec
        has_prior = spec.prior_preservation.enabled
        self._images_per_step = spec.global_batch_size * (2 if has_prior else 1)
        self._progress: ProgressWriter | None = None
        self._trackers: Trackers | None = None
        if rank == 0:
            path = task.run_folder / PROGRESS_FILE
            self._progress = ProgressWriter(
                path, max_steps=spec.training.max_steps, step=task.first_step
            )
            self._trackers = Trackers(task.job, task.run_folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.flush()

    def enter(self, phase: Phase, total: int = 0) -> None:
        """Begins a phase of `total` pieces of work."""
        if self._progress is not None:
            self._progress.enter(phase, total)

    def reuse_class_images(self, count: int) -> None:
        """Says how many of the class images are in the store already."""
        if self._progress is not None:
            self._progress.reuse_class_images(count)

    def advance(self, done: int) -> None:
        """Says how many pieces of the phase's work are done."""
        if self._progress is not None:
            self._progress.advance(done)

    def step(
        self,
        step: int,
        losses: Losses,
        *,
        grad_norm: float,
        learning_rate: float,
        loss_scale: float | None = None,
        skipped_steps: int | None = None,
    ) -> None:
        """Says that `step` optimizer steps are done."""
        if self._progress is not None:
            self._progress.step(
                step,
                losses=losses,
                images=self._images_per_step,
                learning_rate=learning_rate,
                grad_norm=grad_norm,
                loss_scale=loss_scale,
                skipped_steps=skipped_steps,
            )
        if self._trackers is not None:
            self._trackers.log(step, losses, learning_rate=learning_rate, grad_norm=grad_norm)

    def checkpointed(self, step: int, failure: str | None) -> None:
        """Says that a checkpoint is complete, or why it isn't."""
        if self._progress is None:
            return
        if failure is None:
            self._progress.checkpointed(step)
        else:
            self._progress.not_checkpointed(step, failure)

    def close(self, phase: Phase) -> None:
        """Ends the report in a last phase."""
        self.enter(phase)
        if self._trackers is not None:
            self._trackers.finish()
