"""Manifests of what is on disk: a checkpoint or a model exists if and only if its manifest verifies.

`integrity.py` writes and verifies the files; `registry.py` knows where models are.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
"""Adapters in diffusers' names, as its `load_lora_weights` looks for them."""

KOHYA_WEIGHTS = "kohya_lora_weights.safetensors"
"""The same adapters with kohya's keys, where the job asked for them."""

LEARNED_EMBEDDINGS = "learned_embeds.safetensors"
"""Embeddings of new tokens, as diffusers' `load_textual_inversion` looks for them."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ArtifactKind(StrEnum):
    """What a folder holds."""

    BASE_MODEL = "BaseModel"
    SUBJECT_MODEL = "SubjectModel"
    ADAPTER = "Adapter"
    EMBEDDINGS = "TokenEmbeddings"
    CLASSIFIER = "Classifier"
    CHECKPOINT = "Checkpoint"
    CLASS_IMAGES = "ClassImages"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileEntry(_Record):
    """One file of an artifact."""

    sha256: Sha256
    """Digest of the content, in hex."""

    size_bytes: Annotated[int, Field(ge=0)]
    """Length of the content."""


class TrainState(_Record):
    """What a checkpoint says beside the weights; with counter-based randomness this is all it takes to go on."""

    step: Annotated[int, Field(ge=0)]
    """Optimizer steps done."""

    seed: int
    """Seed of every random stream."""

    world_size: Annotated[int, Field(ge=1)]
    """Number of workers that wrote the checkpoint."""

    zero_stage: Annotated[int, Field(ge=0, le=3)]
    """ZeRO stage of the sharded state."""

    spec_digest: Sha256
    """Digest of the fields that fix the numerics (`numerics_digest`): resuming another spec is refused."""

    inputs_digest: Sha256
    """Digest of base model, instance images and class images."""


class BaseReference(_Record):
    """The model that a subject model was made from, or that an adapter or token embeddings go on."""

    uri: str
    """As in the job."""

    digest: Sha256
    """Content digest of its files."""


class Training(_Record):
    """How a subject model was made."""

    spec: dict[str, Any]
    """The job's spec, complete with defaults, as JSON."""

    instance_prompt: str
    """The prompt that calls up the subject."""

    class_prompt: str
    """The prompt of the preserved class."""

    steps: int
    """Optimizer steps done."""

    seed: int
    """Seed of everything random."""

    created: str
    """When it was published, RFC 3339 in UTC; not part of the digest."""

    versions: dict[str, str]
    """Packages that took part, with their versions."""


class Addition(_Record):
    """What an adapter or token embeddings add to their base, whose weights are not in the folder."""

    trigger: str
    """The word that calls up the subject."""

    rank: Annotated[int, Field(ge=1)] | None = None
    """Rank of the adapters; None without."""

    alpha: Annotated[int, Field(ge=1)] | None = None
    """What the adapters add is scaled by alpha / rank; None without."""

    vectors: Annotated[int, Field(ge=1)] | None = None
    """Tokens that the trigger stands for, each with an embedding; None without new tokens."""


class ModelManifest(_Record):
    """`manifest.json`: what a folder holds and the digest of each of its files."""

    schema_version: int = 1
    """Version of this format."""

    kind: ArtifactKind
    """What the folder holds."""

    name: str
    """Name of the model or artifact."""

    namespace: str = "default"
    """Namespace of the job that made it."""

    files: dict[str, FileEntry]
    """Every file but the manifest itself, by its path in the folder, with `/`."""

    digest: Sha256
    """Digest over `files`: two folders with the same digest hold the same bytes."""

    license: str | None = None
    """Licence of a model as the model card of its base names it; None where that does not say."""

    base: BaseReference | None = None
    """The base model of a subject model, an adapter or token embeddings."""

    adds: Addition | None = None
    """What an adapter or token embeddings add to it; None for a whole model."""

    training: Training | None = None
    """How a subject model was made."""

    state: TrainState | None = None
    """State of a checkpoint."""

    @model_validator(mode="after")
    def _digest_is_of_files(self) -> Self:
        if self.digest != content_digest(self.files):
            raise ValueError("digest is not the digest of files: the manifest was altered")
        return self


def content_digest(files: dict[str, FileEntry]) -> str:
    """Sha256 over the sorted paths, sizes and digests of files, in hex."""
    return json_digest(
        {path: [files[path].sha256, files[path].size_bytes] for path in sorted(files)}
    )


def json_digest(value: object) -> str:
    """Sha256 of a JSON value in its canonical form (sorted keys, no spaces), in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
