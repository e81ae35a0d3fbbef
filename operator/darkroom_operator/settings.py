"""What the administrator sets: the environment, read once, as one frozen object.

Each field is `DARKROOM_<FIELD>` in capitals; lists are separated by commas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, get_args

PREFIX: Final = "DARKROOM_"


class LauncherKind(StrEnum):
    """What runs an attempt."""

    KUBERAY = "kuberay"
    RAY_JOBS = "ray-jobs"


class SettingsError(ValueError):
    """A variable of the environment can't be used; names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this operator works."""

    namespaces: tuple[str, ...] = ()
    """Namespaces whose jobs are run; all when empty."""

    pod_name: str = "darkroom-operator"
    """Name of this process among its replicas: the holder in the Lease."""

    pod_namespace: str = "default"
    """Namespace of the Lease."""

    lease_name: str = "darkroom-operator"
    """Name of the Lease: operators with the same one share the work, one at a time."""

    launcher: LauncherKind = LauncherKind.KUBERAY
    """`kuberay` makes a Ray cluster for each attempt, `ray-jobs` submits to an existing one."""

    ray_address: str = ""
    """For `ray-jobs`: the dashboard's URL, for example `http://ray-head:8265`."""

    ray_token_file: str = ""
    """For `ray-jobs`: mounted file with the token of the Ray cluster; no token when empty."""

    trainer_image: str = "darkroom/trainer:0.1.0"
    """Image of the pods of an attempt."""

    image_pull_policy: str = "IfNotPresent"
    """When kubelet pulls it."""

    image_pull_secrets: tuple[str, ...] = ()
    """Secrets for its registry, in the jobs' namespaces."""

    ray_version: str = "2.60.0"
    """Version of Ray in the image: KubeRay adapts to it."""

    progress_url: str = ""
    """Base URL at which pods reach the progress server; they report nothing when it is empty."""

    progress_service: str = ""
    """Service without a selector that the leader points at itself; nothing is written when it is empty."""

    pod_ip: str = ""
    """Address of this process: where that Service leads while it is the leader."""

    port: int = 8080
    """TCP port of the progress server and the probes."""

    metrics_port: int = 9090
    """TCP port of `/metrics`."""

    worker_cpu: str = "4"
    """CPUs of a worker whose job says nothing (quantity)."""

    worker_memory: str = "16Gi"
    """Memory of a worker whose job says nothing (quantity)."""

    head_cpu: str = "1"
    """CPUs of the head, which runs the driver (quantity)."""

    head_memory: str = "4Gi"
    """Memory of the head (quantity): Ray's own processes take about 1 GiB, the driver another."""

    gpu_resource: str = "nvidia.com/gpu"
    """Resource that is a GPU."""

    scratch_size: str = "16Gi"
    """Largest temporary folder of a pod (quantity)."""

    file_roots: tuple[str, ...] = ()
    """Folders of the image below which `file:` URIs are let through."""

    grace_seconds: int = 120
    """Time that a pod has for a checkpoint when it is to go; spot nodes give 30 to 120."""

    backoff_seconds: int = 10
    """Wait before the second attempt; doubles with each further one."""

    backoff_max_seconds: int = 300
    """Longest wait between attempts."""

    preemption_limit: int = 100
    """Preemptions before a job counts as failed: a budget of their own, so that spot nodes work."""

    progress_seconds: int = 10
    """Least time between two status writes of a job that say no more than how far it is."""

    trouble_seconds: int = 20
    """Age of an attempt before what its pods lack is reported: autoscalers are quicker than people."""

    lost_pod_seconds: int = 300
    """Time after its deadline when a terminating pod counts as gone with its node."""

    refusal_seconds: int = 60
    """Wait before a launch that the cluster refused is tried again."""

    cleanup_attempts: int = 3
    """How often the removal of a deleted job's model is tried before somebody has to mend what fails."""

    workers: int = 64
    """Jobs that are looked at at the same time."""

    resync_seconds: int = 300
    """Time between two full comparisons with the cluster: heals what watches missed."""

    watch_silence_seconds: int = 600
    """Longest silence of a watch before `/healthz` fails; streams are renewed each 4 minutes."""

    stuck_seconds: int = 120
    """Longest time that one job may be worked on before `/healthz` fails."""

    @property
    def identity(self) -> str:
        """Which operator this is, whichever of its replicas leads: namespace and name of its Lease."""
        return f"{self.pod_namespace}/{self.lease_name}"

    @property
    def reports_expected(self) -> bool:
        """Whether attempts can tell how far they are: their pods know where, and have a token for it."""
        return self.launcher is LauncherKind.KUBERAY and bool(self.progress_url)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in an environment; what is absent has its default.

    Raises SettingsError that names the variable.
    """
    found: dict[str, Any] = {}
    for field in fields(Settings):
        name = PREFIX + field.name.upper()
        if environment.get(name):
            found[field.name] = _parse(name, environment[name], field.type)
    settings = Settings(**found)
    if settings.launcher is LauncherKind.RAY_JOBS and not settings.ray_address:
        raise SettingsError(f"{PREFIX}RAY_ADDRESS is needed with {PREFIX}LAUNCHER=ray-jobs")
    if settings.progress_service and not settings.pod_ip:
        raise SettingsError(f"{PREFIX}POD_IP is needed with {PREFIX}PROGRESS_SERVICE")
    return settings


def _parse(name: str, text: str, kind: Any) -> object:
    if get_args(kind):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return kind(text)
    except ValueError as error:
        raise SettingsError(f"{name}={text!r}: {error}") from error
