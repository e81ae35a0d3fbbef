"""What a run keeps on disk, and where: one layout for driver, workers, the pods of an attempt and the command.

`<work folder>/class-images/` is shared by all jobs; `<work folder>/<namespace>/<name>/` is one job's.
"""

from typing import Final

CLASS_IMAGES: Final = "class-images"
"""In the work folder: the store of class images."""

PROGRESS_FILE: Final = "progress.json"
"""How far the run is; written by its first worker, and read by driver and command."""

CHECKPOINTS: Final = "checkpoints"
"""Folder of the checkpoints, each in a folder of its own."""

PARTIAL_CHECKPOINT: Final = ".partial"
"""Among the checkpoints: one that is being written."""

VALIDATION: Final = "validation"
"""Folder of the pictures that are drawn on the way."""

TENSORBOARD: Final = "tensorboard"
"""Folder of the event files for TensorBoard."""

LOCK_FILE: Final = ".lock"
"""Locked by the driver for as long as it works."""

STOP_FILE: Final = "stop"
"""Asks for a checkpoint and an early end."""

RUNNING_FILE: Final = "running"
"""There from the driver's start to its end; a pod that is to go waits until it is gone."""

OWNER_FILE: Final = "owner"
"""The uid of the object that the run is for: a later object of the same name is another job."""


def run_path(namespace: str, name: str) -> str:
    """Folder of a job's run, relative to the work folder."""
    return f"{namespace}/{name}"


def worker_note(rank: int) -> str:
    """File in which a worker notes where it runs."""
    return f"worker-{rank}.json"
