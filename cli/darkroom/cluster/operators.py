"""Whether an operator looks at a job: each publishes the namespaces that it watches to every user."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from darkroom.cluster.kubectl import Kubectl, KubectlError
from darkroom.cluster.states import deleted_since, is_over, unheard
from darkroom.plan_view import duration
from darkroom_api.job import PersonalizationJob
from darkroom_api.names import OPERATOR_LABEL, OPERATORS_NAMESPACE

USUAL_NAMESPACE: Final = "darkroom-system"
"""Where docs/install.md installs it."""


@dataclass(frozen=True)
class Operator:
    """An operator, as its release publishes it."""

    release: str
    namespace: str

    watched: tuple[str, ...]
    """Namespaces whose jobs it runs; empty: all."""


def neglect_of(job: PersonalizationJob, context: str | None) -> str | None:
    """Why no operator of the cluster looks at a job, and what to do; None as far as one may."""
    return neglect(job, published_operators(context)) if _needs_operator(job) else None


def published_operators(context: str | None) -> tuple[Operator, ...]:
    """The operators of a cluster; none where nothing is published, or the user may not read it."""
    kubectl = Kubectl(context, OPERATORS_NAMESPACE)
    try:
        found = kubectl.get("configmaps", f"--selector={OPERATOR_LABEL}")
    except KubectlError:
        return ()
    return tuple(map(_parsed, found["items"]))


def neglect(
    job: PersonalizationJob, operators: tuple[Operator, ...], now: datetime | None = None
) -> str | None:
    """The same among these operators; nothing is known of namespaces where there are none."""
    watching = [one for one in operators if _watches(one, job.metadata.namespace)]
    if operators and not watching:
        return _unwatched(job.metadata.namespace, operators)
    if (seconds := unheard(job, now)) is None:
        return None
    where = watching[0].namespace if watching else USUAL_NAMESPACE
    return (
        f"no operator has looked at it for {duration(seconds)}: see that one is installed"
        " (helm list --all-namespaces) and what it says (kubectl logs"
        f" --namespace {where} --selector app.kubernetes.io/component=operator)"
    )


def _needs_operator(job: PersonalizationJob) -> bool:
    return not is_over(job) or deleted_since(job) is not None


def _watches(operator: Operator, namespace: str) -> bool:
    return not operator.watched or namespace in operator.watched


def _unwatched(namespace: str, operators: tuple[Operator, ...]) -> str:
    watched = "; ".join(
        f"{one.release} in {one.namespace} watches {', '.join(one.watched)}" for one in operators
    )
    first = operators[0]
    wanted = ",".join((*first.watched, namespace))
    return (
        f"no operator watches namespace {namespace} ({watched}): apply it in one of these, or"
        f" helm upgrade {first.release} charts/darkroom --namespace {first.namespace}"
        f" --reuse-values --set 'watchNamespaces={{{wanted}}}'"
    )


def _parsed(found: dict[str, Any]) -> Operator:
    labels, data = found["metadata"]["labels"], found.get("data", {})
    return Operator(
        release=labels.get("app.kubernetes.io/instance", "darkroom"),
        namespace=labels[OPERATOR_LABEL],
        watched=tuple(one for one in data.get("namespaces", "").split(",") if one),
    )
