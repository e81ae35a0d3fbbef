"""What is known of a job at one moment: frozen and typed. `decide` sees this and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.names import QUEUE_LABEL
from darkroom_api.report import ProgressReport
from darkroom_api.status import PersonalizationJobStatus


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Namespace and name of a job."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A `PersonalizationJob` as the cluster has it."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    labels: Mapping[str, str]
    deleting: bool
    finalizers: frozenset[str]

    spec: PersonalizationJobSpec | None
    """None when it can't be parsed: `problem` says why."""

    problem: str | None
    status: PersonalizationJobStatus

    @property
    def queue(self) -> str | None:
        """Kueue's queue that the job is for."""
        return self.labels.get(QUEUE_LABEL)


class RunState(StrEnum):
    """What became of the RayJob of an attempt, in our words."""

    QUEUED = "Queued"
    """Kueue holds it back, or took its pods away."""

    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    """It is being deleted."""

    SUCCEEDED = "Succeeded"
    STOPPED = "Stopped"
    FAILED = "Failed"

    REFUSED = "Refused"
    """KubeRay finds it invalid, and will never look at it again."""

    @property
    def is_over(self) -> bool:
        """Whether it will not run any more."""
        return self in (
            RunState.SUCCEEDED,
            RunState.STOPPED,
            RunState.FAILED,
            RunState.REFUSED,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The RayJob of an attempt, or the submission of one to an existing Ray cluster."""

    name: str
    uid: str
    owner_uid: str | None
    """Uid of the job that it was made for."""

    state: RunState
    message: str = ""
    """What KubeRay or Ray says about it, at most `MESSAGE_LENGTH` characters of its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What matters of a pod of an attempt."""

    name: str
    attempt: str

    going_until: datetime | None = None
    """When it should be gone; None while it is to stay."""

    trouble: str | None = None
    """What keeps it from starting."""

    evidence: str | None = None
    """What ended it or one of its containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The newest that an attempt said."""

    attempt: str
    body: ProgressReport

    advanced: datetime
    """When its step, phase or pieces done last changed, by the operator's clock."""


class RefusalKind(StrEnum):
    """Why a launch did not happen."""

    NOT_INSTALLED = "NotInstalled"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The cluster's answer to the last launch, when it was no."""

    kind: RefusalKind
    message: str
    time: datetime


class CleanupState(StrEnum):
    """How far the removal of a deleted job's model is."""

    ABSENT = "Absent"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that a decision about a job depends on, but the time."""

    job: Job
    runs: tuple[Run, ...] = ()
    pods: tuple[Pod, ...] = ()

    evidence: tuple[str, ...] = ()
    """Why pods of the newest attempt ended, of those that are gone too; oldest first."""

    report: Report | None = None
    refusal: Refusal | None = None

    missing: tuple[str, ...] = ()
    """ConfigMaps that the job names and that are not there."""

    cleanup: CleanupState = CleanupState.ABSENT
    written: datetime | None = None
    """When this process last wrote the job's status."""

    def run(self, name: str) -> Run | None:
        """The run of that name that was made for this job."""
        return next((run for run in self.own_runs if run.name == name), None)

    @property
    def own_runs(self) -> tuple[Run, ...]:
        """Runs that were made for this job, not for an earlier one of its name."""
        return tuple(run for run in self.runs if run.owner_uid == self.job.uid)
