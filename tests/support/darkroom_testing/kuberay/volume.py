"""The volume behind a claim, seen from the node: what a run keeps there, and what it ever lost.

Everything is read where the node has it mounted, whatever is mounted there.
"""

import json
import shutil
import threading
from pathlib import Path
from typing import Any, Self

from darkroom_api.integrity import IntegrityError, verify
from darkroom_api.names import LATEST_LINK
from darkroom_api.registry import RegistryEntry, load_verified
from darkroom_api.run_layout import (
    CHECKPOINTS,
    CLASS_IMAGES,
    PARTIAL_CHECKPOINT,
    PROGRESS_FILE,
    run_path,
)
from darkroom_testing.cluster.cluster import Cluster
from darkroom_testing.cluster.namespaces import run
from darkroom_trainer.progress.snapshot import Progress, read_progress

CLAIM = "models"
SIZE = "5Gi"
MODES = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
USER = 65532
"""Who writes there: the pods' user."""


class Volume:
    """A claim `models` of a namespace with a small disk of the node behind it, made for one job."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.host_path = cluster.local.folder / "volumes" / namespace
        self.host_path.mkdir()
        mount = ("mount", "-t", "tmpfs", "-o", "size=2g,mode=777", "tmpfs", str(self.host_path))
        run(*cluster.command_inside(*mount))
        cluster.apply(_volume(namespace, self.host_path), _claim(namespace))

    @property
    def folder(self) -> Path:
        """The root of the volume, in the mounts of the node."""
        return Path(f"/proc/{self.cluster.inside_process()}/root") / self.host_path.relative_to("/")

    def run(self, name: str) -> "RunFolder":
        return RunFolder(self.folder, self.namespace, name)

    def put(self, source: Path, name: str) -> None:
        """Copies a folder there, as the pods' user would have."""
        target = self.folder / name
        shutil.copytree(source, target, symlinks=True)
        for path in (target, *target.rglob("*")):
            shutil.chown(path, USER, USER)

    def claim_again(self) -> None:
        """Makes the claim anew after its deletion, and lets it have the volume, which is still there."""
        free = {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}}
        patch = f"--patch={json.dumps(free)}"
        self.cluster.kubectl("patch", "pv", self.namespace, "--type=merge", patch)
        self.cluster.apply(_claim(self.namespace))

    def remove(self) -> None:
        """Gives the room back; the claim goes with its namespace."""
        self.cluster.kubectl("delete", "pv", self.namespace, "--wait=false")
        run(*self.cluster.command_inside("umount", "--lazy", str(self.host_path)))


def _volume(namespace: str, folder: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": MODES
        | {
            "capacity": {"storage": SIZE},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": CLAIM},
            "hostPath": {"path": str(folder)},
        },
    }


def _claim(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": MODES | {"volumeName": namespace, "resources": {"requests": {"storage": SIZE}}},
    }


class RunFolder:
    """What a job keeps in its volume."""

    def __init__(self, root: Path, namespace: str, name: str) -> None:
        self._work, self._id = root / ".darkroom", f"{namespace}/{name}"
        self._run = self._work / run_path(namespace, name)
        self._registry = root / "registry"

    @property
    def progress(self) -> Progress | None:
        return read_progress(self._run / PROGRESS_FILE)

    def class_images(self) -> list[Path]:
        """The finished shards."""
        return sorted(self._work.glob(f"{CLASS_IMAGES}/*/*.safetensors"))

    def writes_checkpoint(self) -> bool:
        """Whether the files of a checkpoint are being written, and it does not exist yet."""
        return (self._run / CHECKPOINTS / PARTIAL_CHECKPOINT).exists()

    def writes_model(self) -> bool:
        """Whether the files of the model are being written."""
        return any((self._registry / self._id).glob(".partial-*"))

    def verified_checkpoint(self) -> int | None:
        """Step of the newest checkpoint whose every file matches its manifest."""
        for folder in sorted(self._run.glob(f"{CHECKPOINTS}/step-*"), reverse=True):
            try:
                state = verify(folder).state
            except IntegrityError:
                continue
            return state.step if state is not None else None
        return None

    def verified_digest(self) -> str:
        """Digest of the published model, whose every file matches it."""
        versions = self._registry / self._id
        # By its name: the link's real path would be one outside of the node's mounts.
        name = (versions / LATEST_LINK).readlink().name
        namespace, job = self._id.split("/")
        newest = RegistryEntry(namespace, job, digest=name, folder=versions / name)
        return load_verified(newest).digest


class Watch:
    """Looks at a run's volume all the time: a checkpoint that is lost for a moment was lost."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self.checkpoints: list[int | None] = [None]
        """Each newest verified checkpoint, in the order of time."""
        self.resumes: list[tuple[int, int]] = []
        """Each step that a run had reached and from which it went on, when it was begun again."""
        self._reached = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def losses(self) -> list[tuple[int, int | None]]:
        """Each newest verified checkpoint that was there once, and the older one found later."""
        pairs = zip(self.checkpoints, self.checkpoints[1:], strict=False)
        return [
            (before, after)
            for before, after in pairs
            if before is not None and (after is None or after < before)
        ]

    @property
    def done_again(self) -> int:
        """Most steps that one attempt did a second time."""
        return max((reached - start for reached, start in self.resumes), default=0)

    def _look_on(self) -> None:
        while not self._over.wait(0.05):
            self._look_at_checkpoints()
            self._look_at_steps()

    def _look_at_checkpoints(self) -> None:
        step = self._run.verified_checkpoint()
        if step != self.checkpoints[-1]:
            # Once more: a folder that was replaced while it was read is no loss.
            step = self._run.verified_checkpoint()
        if step != self.checkpoints[-1]:
            self.checkpoints.append(step)

    def _look_at_steps(self) -> None:
        if (progress := self._run.progress) is None:
            return
        if progress.step < self._reached:
            self.resumes.append((self._reached, progress.step))
        self._reached = progress.step
