"""The kinds of objects that the operator works with, and where the API serves them."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from darkroom_api.names import GROUP, JOB_LABEL, PLURAL, VERSION
from darkroom_operator.settings import LauncherKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of object."""

    group: str
    version: str
    plural: str
    selector: str | None = None
    """Label selector of those that are watched and listed."""

    def path(self, namespace: str | None, name: str | None = None, sub: str = "") -> str:
        """Path of an object, or of all in a namespace or in the cluster."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if namespace is not None else ""
        end = f"/{name}" if name is not None else ""
        return f"{root}{place}/{self.plural}{end}{f'/{sub}' if sub else ''}"


class Scope(NamedTuple):
    """What one list or watch is of."""

    resource: Resource
    namespace: str | None
    """None for the whole cluster."""

    def __str__(self) -> str:
        where = f" of namespace {self.namespace}" if self.namespace is not None else ""
        return f"{self.resource.plural}{where}"


JOBS: Final = Resource(group=GROUP, version=VERSION, plural=PLURAL)
RAY_JOBS: Final = Resource(group="ray.io", version="v1", plural="rayjobs", selector=JOB_LABEL)
PODS: Final = Resource(group="", version="v1", plural="pods", selector=JOB_LABEL)
CONFIG_MAPS: Final = Resource(group="", version="v1", plural="configmaps")
NETWORK_POLICIES: Final = Resource(
    group="networking.k8s.io", version="v1", plural="networkpolicies"
)
DISRUPTION_BUDGETS: Final = Resource(group="policy", version="v1", plural="poddisruptionbudgets")
NAMESPACES: Final = Resource(group="", version="v1", plural="namespaces")
POD_EVENTS: Final = Resource(group="", version="v1", plural="events")
BATCH_JOBS: Final = Resource(group="batch", version="v1", plural="jobs")
ENDPOINT_SLICES: Final = Resource(group="discovery.k8s.io", version="v1", plural="endpointslices")
LEASES: Final = Resource(group="coordination.k8s.io", version="v1", plural="leases")
EVENTS: Final = Resource(group="events.k8s.io", version="v1", plural="events")
TOKEN_REVIEWS: Final = Resource(group="authentication.k8s.io", version="v1", plural="tokenreviews")


def watched(launcher: LauncherKind) -> tuple[Resource, ...]:
    """What the state of a job is read from: with KubeRay its RayJobs and their pods as well."""
    return (JOBS, RAY_JOBS, PODS) if launcher is LauncherKind.KUBERAY else (JOBS,)


_BY_KIND: Final = {
    "ConfigMap": CONFIG_MAPS,
    "NetworkPolicy": NETWORK_POLICIES,
    "PodDisruptionBudget": DISRUPTION_BUDGETS,
    "RayJob": RAY_JOBS,
    "Job": BATCH_JOBS,
    "EndpointSlice": ENDPOINT_SLICES,
}


def resource_of(manifest: dict[str, Any]) -> Resource:
    """The resource that a manifest of ours belongs to."""
    return _BY_KIND[manifest["kind"]]
