"""Status of a `PersonalizationJob`: what the operator observed. Conditions, not a phase.

Follows the Kubernetes API conventions, "Typical status properties". Both enums are closed: a condition
or a reason is added here, with its hint, or it can't be said.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints

from darkroom_api.fields import ApiModel, Time

METRIC_VALUE = r"^-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?$"
METRIC_NAME = r"^[a-z][a-zA-Z0-9_]*$"
DIGEST = r"^[0-9a-f]{64}$"
LARGEST = 2**53 - 1
"""Largest whole number that every JSON reader keeps exactly."""

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Steps = Annotated[int, Field(ge=0, le=1_000_000)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Digest = Annotated[str, StringConstraints(pattern=DIGEST, min_length=64, max_length=64)]


class ConditionType(StrEnum):
    """What a condition is about. `Succeeded` sums up; its reason is the STATUS column of kubectl."""

    ACCEPTED = "Accepted"
    QUOTA_RESERVED = "QuotaReserved"
    STARTED = "Started"
    SUSPENDED = "Suspended"
    STALLED = "Stalled"
    CHECKPOINTED = "Checkpointed"
    SUCCEEDED = "Succeeded"
    PUBLISHED = "Published"


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition is as it is, in one word, and what its reader does next."""

    is_terminal: bool
    """Whether the job is over when this is the reason of `Succeeded`."""

    hint: str
    """What to do next."""

    def __new__(cls, value: str, is_terminal: bool, hint: str) -> Self:
        """A member that is its word, with `is_terminal` and `hint` beside it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.is_terminal = is_terminal
        member.hint = hint
        return member

    # On the way.
    PENDING = "Pending", False, "wait: the operator has not looked at the job yet"
    SPEC_ACCEPTED = "SpecAccepted", False, "nothing: the job can run as it is written"
    QUEUED = "Queued", False, "wait for quota, or ask the administrator of the queue for more"
    QUOTA_RESERVED = "QuotaReserved", False, "nothing: the job is about to start"
    STARTING = "Starting", False, "wait for pods; kubectl describe says what they lack"
    PREPARING = "Preparing", False, "wait: class images and latents are being made"
    TRAINING = "Training", False, "wait; STEP and ETA say how long"
    PUBLISHING = "Publishing", False, "wait: the model is being written to the registry"
    CHECKPOINT_WRITTEN = (
        "CheckpointWritten",
        False,
        "nothing: the job can continue from its checkpoint",
    )
    NO_CHECKPOINT = "NoCheckpoint", False, "wait for the first checkpoint, or lower everySteps"
    MAKING_PROGRESS = "MakingProgress", False, "nothing: steps are being done"
    NO_PROGRESS = "NoProgress", False, "read the workers' logs, or raise progressDeadlineSeconds"
    NOT_SUSPENDED = "NotSuspended", False, "set runPolicy.suspend to true to pause the job"
    SUSPENDING = "Suspending", False, "wait: the job stops after its next checkpoint"
    SUSPENDED = "Suspended", False, "set runPolicy.suspend to false to go on"
    RETRYING = "Retrying", False, "wait: the next attempt continues from the last checkpoint"
    PREEMPTED = "Preempted", False, "wait: the job continues when there is room again"
    NODE_LOST = "NodeLost", False, "wait: the next attempt runs on other nodes"
    WORKER_DIED = "WorkerDied", False, "read the worker's log; often the memory is too small"
    RAY_HEAD_DIED = "RayHeadDied", False, "wait for the next attempt; give the head more memory"
    HOST_OUT_OF_MEMORY = "HostOutOfMemory", False, "raise pods.memory, or lower the batch size"
    COLLECTIVE_FAILED = "CollectiveFailed", False, "wait; check the network between nodes"
    GPU_FAILED = "GpuFailed", False, "wait; have the node's GPU and its driver looked at"
    UNSCHEDULABLE = "Unschedulable", False, "add nodes, or ask for less in scale and pods"
    IMAGE_PULL_FAILED = "ImagePullFailed", False, "correct the operator's trainer image"
    VOLUME_MISSING = (
        "VolumeMissing",
        False,
        "create the claim, ConfigMap or Secret that the message names",
    )
    LAUNCH_REFUSED = "LaunchRefused", False, "change what the message says; it is tried again"
    NAME_TAKEN = "NameTaken", False, "rename or delete the object that the message names"
    PODS_REFUSED = (
        "PodsRefused",
        False,
        "change what the message names: the API server accepts no such pod",
    )
    POD_NOT_STARTED = "PodNotStarted", False, "mend what the message says; the pod is tried again"
    START_DEADLINE_EXCEEDED = (
        "StartDeadlineExceeded",
        False,
        "mend what kept the pods from starting, or raise runPolicy.startDeadlineSeconds",
    )
    DELETING = "Deleting", False, "wait: its pods stop and its model is removed"
    CLEANUP_FAILED = (
        "CleanupFailed",
        False,
        "mend what the message says, or keep the model: set output.deletionPolicy to Retain",
    )
    ALREADY_RUNNING = "AlreadyRunning", False, "wait: another process still trains this job"
    RAY_NOT_STARTED = "RayNotStarted", False, "wait for the next attempt; read the head's log"
    CHECKPOINT_FAILED = (
        "CheckpointFailed",
        False,
        "make room where checkpoints are; the job continues from the one before",
    )
    PORT_IN_USE = "PortInUse", False, "choose another port, or end what listens there"
    KUBERAY_MISSING = "KubeRayMissing", False, "install KubeRay with the message's command"

    # The end, and it is good.
    COMPLETED = "Completed", True, "draw with the model: darkroom generate"
    MODEL_PUBLISHED = "ModelPublished", True, "draw with the model: darkroom generate"

    # The end, because of what the job says.
    SPEC_INVALID = "SpecInvalid", True, "correct the field that the message names"
    NOT_SUPPORTED = (
        "NotSupported",
        True,
        "choose another value for the field that the message names",
    )
    UNSUPPORTED_URI = "UnsupportedUri", True, "use a URI that a cluster can read"
    CONSENT_MISSING = "ConsentMissing", True, "create the ConfigMap that consent.recordRef names"
    CONSENT_EXPIRED = "ConsentExpired", True, "get consent anew, then create a new job"
    SOURCE_MISSING = "SourceMissing", True, "correct the URI, or put the files there"
    ACCESS_DENIED = "AccessDenied", True, "give the job's service account access to the URI"
    TOO_FEW_PHOTOS = "TooFewPhotos", True, "give at least 3 pictures that can be read"
    TOO_MANY_PHOTOS = "TooManyPhotos", True, "give fewer pictures: the best 5 to 20"
    PHOTOS_UNREADABLE = "PhotosUnreadable", True, "replace the pictures that the message names"
    CAPTIONS_UNUSABLE = "CaptionsUnusable", True, "correct the captions that the message names"
    BASE_MODEL_UNREACHABLE = "BaseModelUnreachable", True, "correct baseModel.uri"
    BASE_MODEL_UNUSABLE = "BaseModelUnusable", True, "use a complete model in safetensors"
    INVALID_RESOLUTION = "InvalidResolution", True, "choose the resolution that the message names"
    NOT_ENOUGH_GPUS = "NotEnoughGpus", True, "lower scale.workers, or set gpusPerWorker to 0"
    OUT_OF_MEMORY = "OutOfMemory", True, "lower batchSizePerWorker, or raise scale.zeroStage"
    LOSS_NOT_FINITE = "LossNotFinite", True, "lower learningRate, or use BF16 or FP32"
    SPEC_CHANGED = "SpecChanged", True, "create a new job: its checkpoints belong to another spec"
    INPUTS_CHANGED = "InputsChanged", True, "create a new job: its pictures or base model changed"
    WORLD_SIZE_CHANGED = "WorldSizeChanged", True, "use as many workers as the checkpoint has"

    # The end, because of where it ran.
    DISK_FULL = "DiskFull", True, "make room where checkpoints are; the last one is intact"
    FOLDER_UNUSABLE = (
        "FolderUnusable",
        True,
        "let the folder that the message names be written, or name another one",
    )
    EXPORT_FAILED = "ExportFailed", True, "check output.uri and the room there"
    WORKER_FAILED = "WorkerFailed", True, "read the worker's log"
    DEADLINE_EXCEEDED = "DeadlineExceeded", True, "raise runPolicy.activeDeadlineSeconds"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded", True, "read why the attempts ended"
    NOT_PUBLISHED = "NotPublished", True, "see the reason of Succeeded"


class Condition(ApiModel):
    """One observation about the job, in the form of Kubernetes' `metav1.Condition`."""

    type: ConditionType
    """What the condition is about."""

    status: ConditionStatus
    """Whether it holds."""

    reason: Reason
    """Why, in one word."""

    message: Annotated[str, StringConstraints(max_length=4096)]
    """Why, in a sentence for people."""

    last_transition_time: Time
    """When `status` changed last."""

    observed_generation: Count | None = None
    """The `metadata.generation` that this was observed of."""


class Attempt(ApiModel):
    """One try at the training: one RayJob."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    """Name of the RayJob."""

    start_step: Steps
    """Step that it continued from; 0 for a fresh start."""

    end_step: Steps | None = None
    """Last step that it did; absent while it runs."""

    reason: Reason | None = None
    """Why it ended; absent while it runs."""

    start_time: Time
    """When it began."""

    end_time: Time | None = None
    """When it ended; absent while it runs."""


class Metric(ApiModel):
    """One figure of the training."""

    name: Annotated[str, StringConstraints(pattern=METRIC_NAME, min_length=1, max_length=63)]
    """What is measured, for example `loss`."""

    value: Annotated[str, StringConstraints(pattern=METRIC_VALUE, min_length=1, max_length=48)]
    """Its latest value, a decimal number in a string."""


class Progress(ApiModel):
    """How far the training is."""

    step: Steps
    """Optimizer steps done."""

    max_steps: Steps
    """Optimizer steps to do."""

    percent: Annotated[int, Field(ge=0, le=100)]
    """Share of the steps that is done."""

    eta_seconds: Count | None = None
    """Expected time until the last step."""

    metrics: Annotated[
        tuple[Metric, ...],
        Field(
            max_length=16,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        ),
    ] = ()
    """Latest figures of the training, such as `loss`."""

    last_updated_time: Time
    """When the trainer reported this."""


class CheckpointStatus(ApiModel):
    """The newest checkpoint that verified."""

    step: Steps
    """Optimizer steps that it holds."""

    uri: Uri
    """Where it is."""

    digest: Digest
    """Sha256 over its files, in hex."""

    time: Time
    """When it was complete."""


class ModelStatus(ApiModel):
    """The published model."""

    uri: Uri
    """Where it is."""

    digest: Digest
    """Sha256 over its files, in hex."""

    size_bytes: Count
    """Size of its files together."""


class Plan(ApiModel):
    """What the operator worked out before the start."""

    world_size: Annotated[int, Field(ge=1, le=64)]
    """Number of training processes."""

    global_batch_size: Count
    """Instance images in one optimizer step, over all workers."""

    zero_stage: Annotated[int, Field(ge=0, le=3)]
    """DeepSpeed ZeRO stage."""

    predicted_peak_memory_bytes: Count
    """Predicted largest memory of one worker."""


class Usage(ApiModel):
    """What the job cost."""

    gpu_seconds: Count
    """GPU time held, over all workers and attempts."""

    lost_gpu_seconds: Count
    """The part of it whose steps had to be done again."""

    queued_seconds: Count
    """Time spent waiting for quota."""

    active_seconds: Count = 0
    """Length of the attempts that are over; `activeDeadlineSeconds` counts it."""


class Retries(ApiModel):
    """How often the job was started again, by whose fault it was."""

    infrastructure: Count = 0
    """Attempts that nodes, pods, Ray or a stall ended; `runPolicy.backoffLimit` counts them."""

    preemptions: Count = 0
    """Attempts that had to make room for others; they have a budget of their own."""


class PersonalizationJobStatus(ApiModel):
    """What the operator observed."""

    observed_generation: Count | None = None
    """The `metadata.generation` that this status is about."""

    operator: Annotated[str, StringConstraints(min_length=1, max_length=317)] | None = None
    """The operator that runs the job: namespace and name of its Lease. Another one leaves it alone."""

    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = ()
    """What is known of the job, one entry a type; `Succeeded` sums it up."""

    start_time: Time | None = None
    """When the first attempt began."""

    completion_time: Time | None = None
    """When the job was over, for good or bad."""

    attempts: Annotated[
        tuple[Attempt, ...],
        Field(
            max_length=10,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        ),
    ] = ()
    """The last 10 attempts, oldest first."""

    progress: Progress | None = None
    """How far the training is."""

    checkpoint: CheckpointStatus | None = None
    """The newest checkpoint that verified; a new attempt continues from it."""

    model: ModelStatus | None = None
    """The published model; absent until there is one."""

    plan: Plan | None = None
    """What was worked out before the start."""

    usage: Usage | None = None
    """What the job cost so far."""

    retries: Retries | None = None
    """How often the job was started again; absent until it was."""

    def condition(self, about: ConditionType) -> Condition | None:
        """The condition of a type; None before anybody has said it."""
        return next((one for one in self.conditions if one.type is about), None)

    @property
    def summary(self) -> Condition | None:
        """The condition that sums the job up: `Succeeded`."""
        return self.condition(ConditionType.SUCCEEDED)

    @property
    def word(self) -> Reason:
        """The reason of `Succeeded`, as the STATUS column of kubectl shows it."""
        return self.summary.reason if self.summary is not None else Reason.PENDING

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, well or badly; it stays so."""
        return self.summary is not None and self.summary.status is not ConditionStatus.UNKNOWN

    @property
    def succeeded(self) -> bool:
        """Whether the job's model is published."""
        return self.summary is not None and self.summary.status is ConditionStatus.TRUE

    @property
    def newest_attempt(self) -> Attempt | None:
        """The attempt that runs, or the last that ran."""
        return self.attempts[-1] if self.attempts else None

    @property
    def current_attempt(self) -> Attempt | None:
        """The attempt that is not over; there is one at most, the last."""
        last = self.newest_attempt
        return last if last is not None and last.end_time is None else None
