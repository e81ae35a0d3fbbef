"""Finds and names the cause of a failure in what Kubernetes, KubeRay, Ray, torch and our trainer say.

A cause is a `Reason`. One whose `is_terminal` is true lies in the job itself and ends it; any other lies
in where it ran, and the job is tried again on one of two budgets.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from darkroom_api.names import FAILURE_PREFIX
from darkroom_api.status import Reason
from darkroom_operator.decisions.failure_rules import RULES

MESSAGE_LENGTH: Final = 1000
"""Most characters of somebody else's words that go into a status."""

_OWN_WORDS: Final = re.compile(
    rf"^.*?{re.escape(FAILURE_PREFIX)}([A-Z][A-Za-z]+): (.*)$", re.MULTILINE
)

_REASONS: Final = {reason.value: reason for reason in Reason}


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause, and the words that gave it away."""

    reason: Reason
    message: str


_FIXES: Final = (
    (
        re.compile(r"exceeded quota"),
        "lower pods.cpu, pods.memory or scale.workers, or raise the namespace's ResourceQuota",
    ),
    (
        re.compile(r"failed quota: .*must specify"),
        "the namespace's ResourceQuota wants limits: give it a LimitRange with defaults",
    ),
    (
        re.compile(r"(maximum|minimum) \S+ usage per|max limit to request ratio"),
        "the namespace's LimitRange: change pods.cpu or pods.memory, or the LimitRange",
    ),
    (
        re.compile(r"service ?account .*not found", re.IGNORECASE),
        "create the ServiceAccount, or change pods.serviceAccountName",
    ),
    (
        re.compile(r"no PriorityClass"),
        "create the PriorityClass, or change pods.priorityClassName",
    ),
    (
        re.compile(r"violates PodSecurity"),
        "the pods fit the level restricted: see what the namespace's labels ask for beyond it",
    ),
    (
        re.compile(r"denied the request|denied request|failed calling webhook"),
        "a policy of the cluster: ask its administrator",
    ),
    (
        re.compile(r"Multi-Attach|already (used by|exclusively attached)"),
        "the claim can be mounted on one node at a time: use ReadWriteMany, or placement StrictPack",
    ),
    (re.compile(r"Insufficient \S*gpu"), "no node has a free GPU: wait, or lower scale.workers"),
    (re.compile(r"Insufficient (cpu|memory)"), "lower pods.cpu or pods.memory, or add nodes"),
    (re.compile(r"untolerated taint"), "add the taint to pods.tolerations"),
    (
        re.compile(r"node affinity/selector"),
        "no node has the labels of pods.nodeSelector and pods.nodeAffinity",
    ),
    (re.compile(r"pod affinity rules"), "the workers don't fit onto one node: use placement Pack"),
    (re.compile(r"volume node affinity|volume.* zone"), "its volume is on other nodes"),
    (re.compile(r"Too many pods"), "the nodes hold as many pods as they may"),
    (re.compile(r"unschedulable"), "nodes are cordoned"),
)
"""What to do about a pod that can't start, by the words of who says so; the first one counts."""


def classify(text: str) -> Finding | None:
    """The cause that a text names; None when it says nothing that is known."""
    for word, message in reversed(_OWN_WORDS.findall(text)):
        if word in _REASONS:
            return Finding(_REASONS[word], message[:MESSAGE_LENGTH])
    for rule in RULES:
        if found := rule.pattern.search(text):
            return Finding(rule.reason, line_at(text, found.start()))
    return None


def cause_of(said: Finding | None, evidence: Iterable[str], log: str) -> Finding:
    """Why an attempt failed, from what it said itself, what its pods show and how its log ends.

    Where the job itself is at fault, its own word counts. Otherwise what happened to a pod explains
    more than the error that another process met because of it.
    """
    words = said or classify(log)
    if words is not None and words.reason.is_terminal and words.reason is not Reason.WORKER_FAILED:
        return words
    found = [finding for text in evidence if (finding := classify(text)) is not None]
    if found:
        # A bare exit code explains least: it may be of a restart that the attempt survived long ago.
        return next((one for one in found if one.reason is not Reason.WORKER_DIED), found[0])
    unnamed = words is None or words.reason is Reason.WORKER_FAILED
    if unnamed and (named := classify(words.message if words else "")):
        return named
    return words or Finding(Reason.WORKER_DIED, line_at(log, len(log)) or "it ended without a word")


def trouble_of(refused: str | None, troubles: Sequence[str]) -> Finding | None:
    """What keeps an attempt's pods from starting, with what to do about it.

    `refused` is what KubeRay says of pods that it can't make, `troubles` what pods that are there lack.
    """
    if refused is not None:
        return Finding(Reason.PODS_REFUSED, _with_fix(line_at(refused, 0), refused))
    for text in troubles:
        if found := classify(text):
            return Finding(found.reason, _with_fix(found.message, text))
    if troubles:
        return Finding(Reason.POD_NOT_STARTED, _with_fix(line_at(troubles[0], 0), troubles[0]))
    return None


def _with_fix(message: str, text: str) -> str:
    fix = next((words for pattern, words in _FIXES if pattern.search(text)), None)
    return f"{message} ({fix})" if fix is not None else message


def line_at(text: str, position: int) -> str:
    """The line of a text around a position, shortened."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[start : end if end >= 0 else len(text)]
    return " ".join(line.split())[:MESSAGE_LENGTH]
