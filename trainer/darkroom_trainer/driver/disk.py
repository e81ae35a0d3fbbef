"""Whether a run can write where it has to, and has room there: asked before anything starts.

A file without a name is made in each folder that is there already, and is gone at once: what a file
system, a mount, an owner or a quota refuses, only a real attempt tells.
"""

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final

from darkroom_api.job import PersonalizationJob
from darkroom_api.registry import model_folder
from darkroom_api.run_layout import CHECKPOINTS, CLASS_IMAGES, LOCK_FILE
from darkroom_api.status import Reason
from darkroom_api.words import counted
from darkroom_trainer.driver.plan import TrainingPlan
from darkroom_trainer.driver.sizes import in_words
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.output.checkpoint import FULL_DISK, partial_folder
from darkroom_trainer.worker_task import WorkerTask

DOWNLOADS: Final = "downloads"
DEEPEST_BELOW: Final = 256
"""Bytes that the paths of our files have below a folder, with room to spare."""

NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems say that can't lock a file."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A folder that a run writes to; it need not exist."""

    field: str
    """The option or field that names it."""

    path: Path

    fix: str
    """What to do when it can't be written."""

    locks: bool = False
    """Whether the run locks files in it."""

    is_file: bool = False
    """Whether it is a file, which another user may have left there."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Something that a run writes."""

    what: str
    """In words: `3 checkpoints of 78.0 MiB`."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A file system: what has the same device has the same room."""

    device: int
    free_bytes: int


def targets(
    job: PersonalizationJob, work_dir: Path, run_folder: Path, registry_root: Path
) -> list[Target]:
    """Where a run writes."""
    owner = job.metadata
    work = partial(Target, field="--work-dir", fix="choose another --work-dir, or mend that one")
    return [
        work(path=run_folder / LOCK_FILE, is_file=True),
        work(path=run_folder / CHECKPOINTS, locks=True),
        work(path=work_dir / CLASS_IMAGES, locks=True),
        work(path=work_dir / DOWNLOADS, locks=True),
        Target(
            field="spec.output.uri",
            path=model_folder(registry_root, owner.namespace, owner.name),
            fix="set it to a folder that can be written, or mend that one",
        ),
    ]


def loads(task: WorkerTask, plan: TrainingPlan, *, restart: bool) -> list[Load]:
    """What a run writes; what it removes before is taken off."""
    old = task.run_folder / CHECKPOINTS if restart else partial_folder(task.run_folder)
    checkpoints = plan.checkpoints_more * plan.checkpoint_bytes - bytes_below(old)
    return [
        Load(
            what=f"{counted(plan.checkpoints_more, 'checkpoint')} of"
            f" {in_words(plan.checkpoint_bytes)}",
            path=task.run_folder,
            size_bytes=max(0, checkpoints),
        ),
        Load(
            what=f"class images of {in_words(plan.class_image_bytes)}",
            path=task.class_images_root,
            size_bytes=plan.class_image_bytes,
        ),
        Load(
            what=f"a model of {in_words(plan.model_bytes)}",
            path=task.registry_root,
            size_bytes=plan.model_bytes,
        ),
    ]


def refuse_unwritable(targets: Iterable[Target]) -> None:
    """Raises TrainerError for the first folder that can't be written or made."""
    for target in targets:
        where = target.path
        try:
            where = _nearest(target.path)
            _refuse_long_names(target.path, where)
            with _opened(target, where) as file:
                if target.locks:
                    _refuse_no_locks(target, where, file.fileno())
        except OSError as error:
            raise _refused(target, where, error) from error


def refuse_lack_of_room(loads: Iterable[Load], volume_at: Callable[[Path], Volume | None]) -> None:
    """Raises TrainerError when what a run writes is more than is free on one of its file systems."""
    shares: dict[int, list[Load]] = {}
    volumes: dict[int, Volume] = {}
    for load in loads:
        if load.size_bytes and (volume := volume_at(load.path)) is not None:
            volumes[volume.device] = volume
            shares.setdefault(volume.device, []).append(load)
    for device, share in shares.items():
        needed, free = sum(load.size_bytes for load in share), volumes[device].free_bytes
        if needed > free:
            raise TrainerError(
                Reason.DISK_FULL,
                f"{' and '.join(sorted({str(load.path) for load in share}))}: this run writes"
                f" {in_words(needed)} there ({', '.join(load.what for load in share)}) and"
                f" {in_words(free)} are free",
                f"free {in_words(needed - free)} there, lower spec.checkpoint.keep, or choose another"
                " --work-dir or spec.output.uri",
            )


def volume_at(path: Path) -> Volume | None:
    """The file system that a path is on, or will be; None for one that doesn't tell its size."""
    nearest = _nearest(path)
    found = os.statvfs(nearest)
    if not found.f_blocks:
        return None
    return Volume(device=nearest.stat().st_dev, free_bytes=found.f_bavail * found.f_frsize)


def bytes_below(folder: Path) -> int:
    """Size of all files below a folder; 0 when it isn't there."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # one that has just gone
            size += path.lstat().st_size
    return size


def _opened(target: Target, where: Path) -> IO[bytes]:
    """Something to write where the target is, or will be; nothing of it stays."""
    if target.is_file and where == target.path:
        return where.open("ab")
    if not where.is_dir():
        raise _unfit(target, f"{where} is a file, not a folder")
    return tempfile.TemporaryFile(dir=where)


def _nearest(path: Path) -> Path:
    """The deepest part of a path that is there."""
    for part in (path, *path.parents):
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            part.stat()
            return part
    return path  # not even the root is there; whoever uses it is told so


def _refuse_long_names(path: Path, nearest: Path) -> None:
    longest = os.pathconf(nearest if nearest.is_dir() else nearest.parent, "PC_NAME_MAX")
    names = (len(os.fsencode(name)) for name in path.relative_to(nearest).parts)
    whole = len(os.fsencode(path)) + DEEPEST_BELOW
    if max(names, default=0) > longest or whole > os.pathconf("/", "PC_PATH_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))


def _refuse_no_locks(target: Target, folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        what = f"the file system of {folder} has no file locks, which keep two runs of a job apart"
        raise _unfit(target, what) from error


def _refused(target: Target, where: Path, error: OSError) -> TrainerError:
    """What the system refused, in words."""
    if error.errno in FULL_DISK:
        what = f"{target.field}: the disk of {where} is full"
        return TrainerError(Reason.DISK_FULL, what, target.fix)
    if error.errno == errno.ENAMETOOLONG:
        path = str(target.path)
        return _unfit(target, f"its path is too long ({len(path)} characters): {path[:60]}...")
    if error.errno == errno.EROFS:
        return _unfit(target, f"{where} is on a read-only file system")
    if error.errno in (errno.EACCES, errno.EPERM):
        return _unfit(target, f"{where} can't be written: {_ownership(where)}")
    return _unfit(target, f"{where} can't be written: {error.strerror}")


def _unfit(target: Target, what: str) -> TrainerError:
    return TrainerError(Reason.FOLDER_UNUSABLE, f"{target.field}: {what}", target.fix)


def _ownership(folder: Path) -> str:
    found = folder.stat()
    owner = f"it belongs to user {found.st_uid} (mode {found.st_mode & 0o777:o})"
    return f"{owner} and this process runs as user {os.geteuid()}"
