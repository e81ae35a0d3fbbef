"""Experiment trackers on rank 0: TensorBoard always, Weights & Biases where it is configured.

accelerate's trackers do the writing, so any program that reads diffusers' trainings reads these.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from darkroom_api.job import PersonalizationJob
from darkroom_api.run_layout import TENSORBOARD
from darkroom_trainer.progress.snapshot import Losses

WANDB_PROJECT: Final = "darkroom"
LOG_EVERY: Final = 5
"""Steps between logged values; the last step of a run may fall between."""


class Trackers:
    """All trackers of a run."""

    def __init__(self, job: PersonalizationJob, run_folder: Path) -> None:
        from accelerate.tracking import TensorBoardTracker

        name = f"{job.metadata.namespace}-{job.metadata.name}"
        self._trackers: list[Any] = [TensorBoardTracker(name, logging_dir=run_folder / TENSORBOARD)]
        if wandb_configured():
            from accelerate.tracking import WandBTracker

            self._trackers.append(WandBTracker(WANDB_PROJECT, name=name, resume="allow", id=name))
        for tracker in self._trackers:
            tracker.start()

    def log(self, step: int, losses: Losses, *, learning_rate: float, grad_norm: float) -> None:
        """Records the values of a step, if it is one of those that are kept."""
        if step % LOG_EVERY:
            return
        values = {
            "loss/total": losses.total,
            "loss/instance": losses.instance,
            "optimizer/learning_rate": learning_rate,
            "optimizer/grad_norm": grad_norm,
        }
        if losses.prior is not None:
            values["loss/prior"] = losses.prior
        for tracker in self._trackers:
            tracker.log(values, step=step)

    def finish(self) -> None:
        """Flushes everything."""
        for tracker in self._trackers:
            tracker.finish()


def wandb_configured() -> bool:
    """Whether the user set up Weights & Biases: its package, and a key or a mode in the environment."""
    wanted = "WANDB_API_KEY" in os.environ or "WANDB_MODE" in os.environ
    return wanted and find_spec("wandb") is not None
