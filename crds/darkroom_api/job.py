"""`PersonalizationJob` v1alpha1: what a user writes, for a cluster and for a laptop alike.

The models are the single source: `crd.py` renders the CustomResourceDefinition and the job file's
reference from them. Cross-field rules live in `rules.py`, once for pydantic and once as CEL.
"""

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from darkroom_api import rules
from darkroom_api.fields import (
    ApiModel,
    ClassNoun,
    Decimal,
    ImagesUri,
    ModelUri,
    ObjectName,
    OutputUri,
    Time,
)
from darkroom_api.names import DEFAULT_NAMESPACE, MAX_NAME_LENGTH
from darkroom_api.pods import Pods
from darkroom_api.status import PersonalizationJobStatus
from darkroom_api.training import Training

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
IDENTIFIER_PATTERN = r"^([A-Za-z0-9][A-Za-z0-9_-]*|<[A-Za-z0-9][A-Za-z0-9_-]*>)$"


class SubjectKind(StrEnum):
    """What is being learnt; `Person` needs a record of consent."""

    OBJECT = "Object"
    ANIMAL = "Animal"
    STYLE = "Style"
    PERSON = "Person"


class PriorMode(StrEnum):
    """Where the class prior comes from: images made by the base model, a frozen copy of it, or nowhere."""

    GENERATED_IMAGES = "GeneratedImages"
    FROZEN_TEACHER = "FrozenTeacher"
    DISABLED = "Disabled"


class Placement(StrEnum):
    """How workers are placed over nodes, in the words of Ray's placement groups."""

    PACK = "Pack"
    STRICT_PACK = "StrictPack"
    SPREAD = "Spread"


class Precision(StrEnum):
    """Arithmetic of the forward and backward pass; the master weights are always 32-bit."""

    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"


class Offload(StrEnum):
    """Where ZeRO keeps the optimizer state: on the device, or in the host's memory."""

    NONE = "None"
    CPU = "CPU"


class ExportPrecision(StrEnum):
    """Number format of the published weights."""

    FP16 = "FP16"
    FP32 = "FP32"


class DeletionPolicy(StrEnum):
    """What happens to the published model when the job is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class BaseModelSource(ApiModel):
    """The model that is personalised."""

    uri: ModelUri
    """Where the base model is: `hf://ORG/NAME@COMMIT` (40 hex digits), `s3://`, `gs://`,
    `pvc://CLAIM/path`, `file:PATH` (relative to the job file, not on a cluster) or `builtin:miniature`."""


class Images(ApiModel):
    """The instance images: 3 or more pictures of the subject. Exactly one of the fields is set."""

    uri: ImagesUri | None = None
    """Folder of pictures (JPEG, HEIC, PNG, WEBP, AVIF, TIFF, BMP or GIF): `s3://`, `gs://`, `pvc://CLAIM/path`,
    `file:PATH` or `builtin:mascot`."""

    config_map: ObjectName | None = None
    """Name of a ConfigMap in the job's namespace that holds the pictures (at most 1 MiB in all)."""


class RecordRef(ApiModel):
    """Names the ConfigMap that documents the consent; its content is never copied."""

    name: ObjectName
    """Name of the ConfigMap in the job's namespace."""


class Consent(ApiModel):
    """The depicted person's consent to be learnt by a model."""

    record_ref: RecordRef
    """Where the consent is recorded."""

    expires: Time
    """When the consent ends, in UTC (for example `2027-06-30T00:00:00Z`)."""


class Subject(ApiModel):
    """What is learnt, and the words that will call it up."""

    kind: SubjectKind
    """What the subject is. There is no default, because `Person` has consequences; a `Style` is learnt
    as "a photo of a CLASSNOUN in the style of IDENTIFIER"."""

    identifier: Annotated[
        str, StringConstraints(pattern=IDENTIFIER_PATTERN, min_length=1, max_length=32)
    ]
    """The rare token that will stand for the subject in prompts, for example `sks`, `TOK` or `<sks>`; to
    most tokenizers upper and lower case are the same. A new token (`training.newTokens`) is written `<sks>`."""

    class_noun: ClassNoun
    """The ordinary word for what the subject is, for example `dog`; its meaning is preserved."""

    images: Images
    """The pictures to learn from."""

    consent: Consent | None = None
    """Record of consent; required when `kind` is `Person`."""

    @property
    def instance_prompt(self) -> str:
        """The prompt of the instance images (DreamBooth, section 3.1: "a [identifier] [class noun]").

        A style is no thing that could stand in a picture: it is how the picture was made.
        """
        if self.kind is SubjectKind.STYLE:
            return f"a photo of a {self.class_noun} in the style of {self.identifier}"
        return f"a photo of {self.identifier} {self.class_noun}"

    def photo_prompt(self, caption: str | None) -> str:
        """The prompt of a photo: its caption, or the instance prompt where it has none.

        `[identifier]` in a caption stands for the identifier. One without the identifier has the
        subject's words put to it, since a prompt without them would teach nothing about the subject.
        """
        if caption is None:
            return self.instance_prompt
        caption = caption.replace("[identifier]", self.identifier)
        if re.search(rf"(?<!\w){re.escape(self.identifier)}(?!\w)", caption, re.IGNORECASE):
            return caption
        if self.kind is SubjectKind.STYLE:
            return f"{caption}, in the style of {self.identifier}"
        return f"{self.identifier} {self.class_noun}, {caption}"

    @property
    def class_prompt(self) -> str:
        """The prompt of the class images (DreamBooth, section 3.2: "a [class noun]")."""
        return f"a photo of a {self.class_noun}"


class PriorPreservation(ApiModel):
    """Class-specific prior preservation (DreamBooth, section 3.2): keeps the class noun's meaning."""

    mode: PriorMode = PriorMode.GENERATED_IMAGES
    """Where the prior comes from: `GeneratedImages` has the base model draw class images first;
    `FrozenTeacher` keeps a frozen copy of it beside the training, which says what to keep without any
    images (for LoRA the same network without its adapters); `Disabled` keeps nothing."""

    weight: Decimal = "1.0"
    """Lambda of the loss: instance loss + lambda x prior loss. Between 0 and 100."""

    num_images: Annotated[int, Field(ge=1, le=10_000)] = 200
    """How many class images the base model makes."""

    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """DDIM steps for each class image."""

    guidance_scale: Decimal = "7.5"
    """Classifier-free guidance scale of the class images. Between 1 and 30."""

    @property
    def enabled(self) -> bool:
        """Whether the loss has a prior term."""
        return self.mode is not PriorMode.DISABLED


class Scale(ApiModel):
    """On what the training runs."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of training processes (the world size)."""

    gpus_per_worker: Annotated[int, Field(ge=0, le=1)] = 1
    """GPUs of a worker; 0 trains on CPUs."""

    placement: Placement = Placement.PACK
    """How workers are placed over nodes."""

    precision: Precision = Precision.FP16
    """Arithmetic of the forward and backward pass; `FP16` needs a GPU."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] = 2
    """DeepSpeed ZeRO stage: 0 replicates, 1 shards optimizer state, 2 gradients too, 3 parameters too."""

    offload: Offload = Offload.NONE
    """Where the optimizer state is kept; `CPU` needs a ZeRO stage of at least 1."""


class CheckpointPolicy(ApiModel):
    """When the training state is saved."""

    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Steps between checkpoints."""

    keep: Annotated[int, Field(ge=1, le=100)] = 3
    """How many checkpoints are kept; older ones are removed."""


Prompt = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class Validation(ApiModel):
    """Pictures drawn while training, to see how it goes."""

    every_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Steps between validation grids."""

    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=16, strict=False)]
    """One row of pictures each."""


class Output(ApiModel):
    """Where the model goes."""

    uri: OutputUri
    """Root of the model registry: `s3://`, `gs://`, `pvc://CLAIM/path` or `file:PATH`."""

    precision: ExportPrecision = ExportPrecision.FP16
    """Number format of the published weights."""

    kohya_keys: bool = False
    """Whether LoRA's weights are also written with kohya's keys, for programs that know only those."""

    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """What happens to the published model when the job is deleted."""


class RunPolicy(ApiModel):
    """How the run is controlled; may be changed at any time."""

    suspend: bool = False
    """Pauses the job after a checkpoint; false resumes it."""

    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """Attempts after the first one that failed for a reason outside the job's own specification."""

    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """Longest time the job may be active, over all attempts; no limit when absent."""

    start_deadline_seconds: Annotated[int, Field(ge=30, le=604_800)] = 1800
    """Longest time an attempt may take to start, once it has its quota; one that takes longer gives up
    what it holds, and counts as failed."""

    progress_deadline_seconds: Annotated[int, Field(ge=30, le=86_400)] = 600
    """Longest time without a step before an attempt counts as stalled."""

    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Time after which a finished job is deleted; never when absent."""


class PersonalizationJobSpec(ApiModel):
    """What is to be done. Immutable after creation, except `runPolicy` and `output.deletionPolicy`."""

    base_model: BaseModelSource
    """The model that is personalised."""

    subject: Subject
    """What it learns."""

    prior_preservation: PriorPreservation = PriorPreservation()
    """How the class noun's meaning is kept."""

    training: Training = Training()
    """How the weights are trained."""

    scale: Scale = Scale()
    """On what the training runs."""

    checkpoint: CheckpointPolicy = CheckpointPolicy()
    """When the training state is saved."""

    validation: Validation | None = None
    """Pictures drawn while training; none when absent."""

    output: Output
    """Where the model goes."""

    run_policy: RunPolicy = RunPolicy()
    """How the run is controlled."""

    pods: Pods | None = None
    """What the job's pods are given on a cluster, besides what the administrator gives all of them."""

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        rules.check_spec(self)
        return self

    @property
    def global_batch_size(self) -> int:
        """Instance images in one optimizer step, over all workers."""
        training = self.training
        return (
            training.batch_size_per_worker
            * training.gradient_accumulation_steps
            * self.scale.workers
        )


class ObjectMeta(ApiModel):
    """The part of Kubernetes' object metadata that a job file uses; the rest is let through."""

    model_config = ApiModel.model_config | {"extra": "allow"}

    name: Annotated[
        str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=MAX_NAME_LENGTH)
    ]
    """Name of the job and of the model it makes: lower-case letters, digits and `-`, at most 40."""

    namespace: Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)] = (
        DEFAULT_NAMESPACE
    )
    """Namespace of the job and of the model."""


class PersonalizationJob(ApiModel):
    """A request to personalise a text-to-image model with a subject."""

    api_version: Literal["darkroom.dev/v1alpha1"]
    """Group and version of this schema."""

    kind: Literal["PersonalizationJob"]
    """Kind of this object."""

    metadata: ObjectMeta
    """Name and namespace."""

    spec: PersonalizationJobSpec
    """What is to be done."""

    status: PersonalizationJobStatus | None = None
    """What the operator says about it; ignored in a job file."""
