"""Where class images are kept: a content-addressed store that all jobs of one class share.

The key is all that decides what the images look like (base model, class prompt, sampler, steps,
guidance, resolution, seed), not how many there are: a job that wants more makes the missing ones.

A store is a folder of shards `<index>-<sha256>.safetensors`, each of 8 images: the name carries the
digest of the content, so one rename makes a shard exist and complete, and a reader can verify it.
Imports no torch, so that a plan is quick.
"""

import fcntl
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from darkroom_api.artifact import json_digest
from darkroom_api.integrity import write_atomically
from darkroom_api.job import PersonalizationJobSpec, Precision, PriorMode

logger = logging.getLogger(__name__)

SHARD_IMAGES: Final = 8
"""Images in a shard, sampled as one batch whatever the number of workers: so the bytes never depend on it."""

STORE_SEED: Final = 0
"""Seed of all class images: the job's own seed would keep jobs from sharing them."""


@dataclass(frozen=True, kw_only=True)
class PriorRecipe:
    """All that decides what the class images look like."""

    base_digest: str
    prompt: str
    sampler: str
    sampling_steps: int
    guidance_scale: float
    resolution: int
    precision: str
    """Arithmetic of the sampling: FP32 on a CPU."""

    seed: int = STORE_SEED
    shard_images: int = SHARD_IMAGES

    @property
    def key(self) -> str:
        """Address of the store."""
        return json_digest(asdict(self))


def prior_recipe(
    spec: PersonalizationJobSpec, base_digest: str, sampler: str
) -> PriorRecipe | None:
    """The recipe of a job's class images, or None without a generated prior."""
    prior = spec.prior_preservation
    if prior.mode is not PriorMode.GENERATED_IMAGES:
        return None
    return PriorRecipe(
        base_digest=base_digest,
        sampler=sampler,
        prompt=spec.subject.class_prompt,
        sampling_steps=prior.sampling_steps,
        guidance_scale=float(prior.guidance_scale),
        resolution=spec.training.resolution,
        precision=spec.scale.precision if spec.scale.gpus_per_worker else Precision.FP32,
    )


class ClassImageStore:
    """The shards of one recipe in a folder."""

    def __init__(self, root: Path, recipe: PriorRecipe) -> None:
        self.recipe = recipe
        self.folder = root / recipe.key

    def missing(self, num_images: int) -> list[int]:
        """Shards that the first `num_images` need and that aren't there. Removes damaged ones."""
        absent = []
        for index in range(num_shards(num_images)):
            path = self._path(index)
            if path is not None and not _is_intact(path):
                logger.warning("class images %s are damaged and are made again", path)
                path.unlink(missing_ok=True)
                path = None
            if path is None:
                absent.append(index)
        return absent

    def has(self, index: int) -> bool:
        """Whether a shard is there."""
        return self._path(index) is not None

    def add(self, index: int, content: bytes) -> None:
        """Stores the safetensors file of a shard."""
        digest = hashlib.sha256(content).hexdigest()
        write_atomically(self.folder / f"{index:08d}-{digest}.safetensors", content)

    def shard(self, index: int) -> bytes:
        """The safetensors file of a shard that is there."""
        path = self._path(index)
        assert path is not None, f"class images {index} vanished from {self.folder}"
        return path.read_bytes()

    @contextmanager
    def claim(self, index: int, *, wait: bool) -> Iterator[bool]:
        """Holds the right to make a shard, over all jobs of this machine; yields whether it is held.

        The claim is a file lock: the kernel gives it back when its owner is killed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{index:08d}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def _path(self, index: int) -> Path | None:
        return next(self.folder.glob(f"{index:08d}-*.safetensors"), None)


def num_shards(num_images: int) -> int:
    """Shards that hold so many images."""
    return -(-num_images // SHARD_IMAGES)


def _is_intact(path: Path) -> bool:
    digest = path.stem.partition("-")[2]
    return hashlib.sha256(path.read_bytes()).hexdigest() == digest
