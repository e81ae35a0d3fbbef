"""What is known of a job at one moment: frozen and typed. `decide` sees this and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from darkroom_api.job import DeletionPolicy, PersonalizationJobSpec
from darkroom_api.names import QUEUE_LABEL
from darkroom_api.report import ProgressReport
from darkroom_api.status import PersonalizationJobStatus
from darkroom_operator.decisions.actions import Action


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

    @property
    def removes_model(self) -> bool:
        """Whether its model is to go with it."""
        return self.spec is not None and self.spec.output.deletion_policy is DeletionPolicy.DELETE


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

    created: datetime | None = None
    """When it was made; None where nobody says."""

    cluster: str | None = None
    """Name of its RayCluster, once it has one."""

    trouble: str | None = None
    """Why KubeRay can't make its pods."""

    version: str | None = None
    """Its resource version; None where there is none."""

    rendered: str | None = None
    """Digest of the manifest that it was made from; None of one from before there were digests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What matters of a pod of an attempt."""

    name: str
    attempt: str

    going_until: datetime | None = None
    """When it should be gone; None while it is to stay."""

    waits: bool = False
    """Whether none of its containers has started yet."""

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
    """Why the cluster said no."""

    NOT_INSTALLED = "NotInstalled"
    NAME_TAKEN = "NameTaken"
    TERMINATING = "Terminating"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The cluster's answer to the last action, when it was no."""

    kind: RefusalKind
    action: Action
    message: str
    time: datetime


class CleanupState(StrEnum):
    """How far a try to remove a deleted job's model is."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanup:
    """One try to remove a deleted job's model: a Job of Kubernetes."""

    name: str
    state: CleanupState
    message: str = ""
    """Why it failed, in Kubernetes' words."""


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

    terminating: bool = False
    """Whether the job's namespace is being deleted; looked up where that matters."""

    wanted: str | None = None
    """Digest of the manifest that the open attempt would be made from now."""

    cleanups: tuple[Cleanup, ...] = ()
    """The tries to remove a deleted job's model, in their order."""
    written: datetime | None = None
    """When this process last wrote the job's status."""

    def run(self, name: str) -> Run | None:
        """The run of that name that was made for this job."""
        return next((run for run in self.own_runs if run.name == name), None)

    @property
    def own_runs(self) -> tuple[Run, ...]:
        """Runs that were made for this job, not for an earlier one of its name."""
        return tuple(run for run in self.runs if run.owner_uid == self.job.uid)
