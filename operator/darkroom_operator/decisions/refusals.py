"""What the cluster's last refusal means for a decision: it is reported, and not repeated at once. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from darkroom_api.status import ConditionStatus, Reason
from darkroom_operator.decisions.actions import (
    Action,
    Decision,
    DeleteJob,
    Launch,
    RemoveModel,
    SetFinalizer,
    Stop,
)
from darkroom_operator.decisions.conditions import Situation
from darkroom_operator.decisions.observed import Observed, Refusal, RefusalKind
from darkroom_operator.settings import Settings

KUBERAY_INSTALL: Final = (
    "helm install kuberay-operator kuberay-operator --version 1.6.2"
    " --repo https://ray-project.github.io/kuberay-helm/"
)
"""What an administrator types where KubeRay is missing."""

_REASONS: Final = {
    RefusalKind.NOT_INSTALLED: Reason.KUBERAY_MISSING,
    RefusalKind.NAME_TAKEN: Reason.NAME_TAKEN,
    RefusalKind.TERMINATING: Reason.DELETING,
    RefusalKind.REFUSED: Reason.LAUNCH_REFUSED,
}


def refusal_of(observed: Observed, actions: tuple[Action, ...]) -> Refusal | None:
    """The cluster's no to one of these actions; None when it said no such thing."""
    refusal = observed.refusal
    return refusal if refusal is not None and refusal.action in actions else None


def told(situation: Situation, actions: tuple[Action, ...], observed: Observed) -> Situation:
    """A situation that says what the cluster refused, where that is what it waits for."""
    refusal = refusal_of(observed, actions)
    if refusal is None or situation.outcome is not ConditionStatus.UNKNOWN:
        return situation
    return replace(situation, reason=_REASONS[refusal.kind], message=words_of(refusal))


def words_of(refusal: Refusal) -> str:
    """What was refused and why, in a sentence."""
    if refusal.kind is RefusalKind.NOT_INSTALLED:
        return f"KubeRay is not installed: {KUBERAY_INSTALL}"
    return f"{_what(refusal.action)}: {refusal.message}"


def held_back(
    decision: Decision, observed: Observed, now: datetime, settings: Settings
) -> Decision:
    """A decision without the action that was refused a moment ago; it is tried again later."""
    refusal = refusal_of(observed, decision.actions)
    if refusal is None:
        return decision
    wait = refusal.time + timedelta(seconds=settings.refusal_seconds) - now
    if wait <= timedelta(0):
        return decision
    again = decision.again_after
    return replace(
        decision,
        actions=tuple(one for one in decision.actions if one != refusal.action),
        again_after=wait if again is None else min(again, wait),
    )


def _what(action: Action) -> str:
    match action:
        case Launch(attempt=attempt):
            return f"attempt {attempt} can't be launched"
        case Stop(run=run):
            return f"{run} can't be stopped"
        case SetFinalizer(present=present):
            return f"its finalizer can't be {'set' if present else 'taken away'}"
        case RemoveModel():
            return "its model can't be removed"
        case DeleteJob():
            return "it can't be deleted after its time to live"
