"""What a decision can ask for. Each action can be repeated: doing it twice is doing it once."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from darkroom_api.status import PersonalizationJobStatus, Reason


@dataclass(frozen=True, slots=True)
class Launch:
    """Start an attempt: everything that its pods need, then the run itself."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End a run; its pods save a checkpoint while they go."""

    run: str
    uid: str

    version: str | None = None
    """End it only while it is as it was seen then; None: whatever it does by now."""


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Hold a deletion back until the model is removed, or let it go on."""

    present: bool


@dataclass(frozen=True, slots=True)
class RemoveModel:
    """Start to remove the published model and the checkpoints."""

    number: int
    """Which try it is, from 1."""


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the job itself, with all that it owns."""


Action = Launch | Stop | SetFinalizer | RemoveModel | DeleteJob


class EventType(StrEnum):
    """How urgent an event is to a reader."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for `kubectl describe`."""

    type: EventType
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about a job. The order: status first, then actions, then events."""

    status: PersonalizationJobStatus | None = None
    """The status to write; None when there is nothing new to say."""

    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()

    again_after: timedelta | None = None
    """When to decide again even if nothing happens."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be done now."""
        return self.status is None and not self.actions and not self.events
