"""The pod templates of an attempt: a head that runs the driver, and workers that train."""

from typing import Final

from darkroom_api.job import PersonalizationJobSpec, Placement
from darkroom_api.names import (
    ATTEMPT_LABEL,
    JOB_UID_ENV,
    LOG_COPY_ENV,
    PHOTOS_DIR_ENV,
    PROGRESS_TOKEN_FILE_ENV,
    PROGRESS_URL_ENV,
    VOLUMES_ENV,
    WORK_DIR_ENV,
)
from darkroom_api.pods import Pods
from darkroom_api.run_layout import RUNNING_FILE, STOP_FILE
from darkroom_operator.decisions.observed import Job
from darkroom_operator.launch.manifests.common import (
    VOLUMES_DIR,
    Manifest,
    labels,
    restricted_container,
    restricted_pod,
    run_folder,
    work_dir,
)
from darkroom_operator.launch.manifests.volumes import (
    PHOTOS_DIR,
    SECRET_DIR,
    TOKEN_FILE,
    mounts,
    volumes,
)
from darkroom_operator.settings import Settings

HOST: Final = "kubernetes.io/hostname"
"""Label by which nodes are told apart."""

POD_LOG: Final = "/proc/1/fd/1"
"""Output of a container's first process: what kubelet keeps, and `kubectl logs` shows."""

ROLE_LABEL: Final = "darkroom.dev/role"
"""`head` or `worker`."""

LOOKS: Final = 20
"""Looks, two a second, for a `running` that its driver has touched: the driver does it every second."""

SAVE_AND_GO: Final = (
    f'if [ -d "$0" ]; then echo preStop > "$0/{STOP_FILE}"; left={LOOKS};'
    f' while [ $left -gt 0 ] && now=$(stat -c %y "$0/{RUNNING_FILE}" 2> /dev/null); do'
    f' [ "$now" = "$seen" ] || left={LOOKS}; seen=$now left=$((left - 1)); sleep 0.5; done; fi;'
    ' until grep -q "^SigCgt:.*[4-7c-f]...\\$" "/proc/$1/status"; do sleep 0.5; done'
)
"""Asks the run to save, and keeps the pod until the driver has ended, or is seen to be dead.

Only changes of the file's time count: clocks of nodes differ. Then until the process of that number
catches SIGTERM: Linux drops it for the first process of a container that doesn't, as while Ray is
being imported. Kubelet sets the limit.
"""


def pod_template(
    job: Job, spec: PersonalizationJobSpec, attempt: str, settings: Settings, *, head: bool
) -> Manifest:
    """Template of the head's or of a worker's pod."""
    pods, role = spec.pods or Pods(), "head" if head else "worker"
    body: Manifest = {
        "automountServiceAccountToken": False,
        "securityContext": restricted_pod(),
        "terminationGracePeriodSeconds": settings.grace_seconds,
        "containers": [_container(job, spec, attempt, settings, head=head)],
        "volumes": volumes(job, spec, settings),
        **_placement(spec, pods, attempt, head=head),
    }
    if not head:
        # KubeRay has them wait for the head in bash, which as a container's first process takes no SIGTERM.
        body["shareProcessNamespace"] = True
    if settings.image_pull_secrets:
        body["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    if pods.service_account_name is not None:
        body["serviceAccountName"] = pods.service_account_name
    if pods.priority_class_name is not None:
        body["priorityClassName"] = pods.priority_class_name
    return {
        "metadata": {"labels": labels(job, attempt) | {ROLE_LABEL: role}},
        "spec": body,
    }


def _container(
    job: Job, spec: PersonalizationJobSpec, attempt: str, settings: Settings, *, head: bool
) -> Manifest:
    command = ["/bin/sh", "-c", SAVE_AND_GO, run_folder(job, spec), "1"]
    return {
        "name": "ray-head" if head else "ray-worker",
        "image": settings.trainer_image,
        "imagePullPolicy": settings.image_pull_policy,
        "env": _environment(job, spec, attempt, settings, head=head),
        "resources": _resources(spec, settings, head=head),
        "securityContext": restricted_container(),
        "lifecycle": {"preStop": {"exec": {"command": command}}},
        "volumeMounts": mounts(spec, settings),
    }


def environment(
    job: Job, spec: PersonalizationJobSpec, attempt: str, settings: Settings
) -> dict[str, str]:
    """What a run of an attempt is told besides its job."""
    found = {
        "HOME": "/tmp",  # noqa: S108 - an emptyDir of the pod's own
        "TMPDIR": "/tmp",  # noqa: S108
        "PYTHONUNBUFFERED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # How long Ray waits for a stopped driver to save before it kills it; 3 s by default.
        "RAY_JOB_STOP_WAIT_TIME_S": str(settings.grace_seconds),
        JOB_UID_ENV: job.uid,
        VOLUMES_ENV: VOLUMES_DIR,
        WORK_DIR_ENV: work_dir(spec),
    }
    if spec.subject.images.config_map is not None:
        found[PHOTOS_DIR_ENV] = PHOTOS_DIR
    if spec.pods is not None and spec.pods.secret_ref is not None:
        found["HF_TOKEN_PATH"] = f"{SECRET_DIR}/token"
    if settings.progress_url:
        found[PROGRESS_URL_ENV] = progress_url(job, attempt, settings)
        found[PROGRESS_TOKEN_FILE_ENV] = TOKEN_FILE
    return found


def progress_url(job: Job, attempt: str, settings: Settings) -> str:
    """Where an attempt reports."""
    number = attempt.rpartition("-")[2]
    path = f"/v1/jobs/{job.key.namespace}/{job.key.name}/attempts/{number}/progress"
    return settings.progress_url.rstrip("/") + path


def _environment(
    job: Job, spec: PersonalizationJobSpec, attempt: str, settings: Settings, *, head: bool
) -> list[Manifest]:
    """The user's variables by reference, then ours, which win."""
    ours = environment(job, spec, attempt, settings)
    # How long Ray, once told to stop, waits for work to leave the node; the preStop hook has waited.
    ours["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    if head:
        ours[LOG_COPY_ENV] = POD_LOG
    theirs = {
        variable.name: variable.config_map_key_ref
        for variable in (spec.pods.env if spec.pods is not None else ())
        if variable.name not in ours
    }
    found: list[Manifest] = [
        {
            "name": name,
            "valueFrom": {"configMapKeyRef": {"name": reference.name, "key": reference.key}},
        }
        for name, reference in theirs.items()
    ]
    return found + [{"name": name, "value": value} for name, value in ours.items()]


def _resources(spec: PersonalizationJobSpec, settings: Settings, *, head: bool) -> Manifest:
    """Requests equal limits: memory that is promised is there, and a worker counts threads by its CPUs."""
    pods = spec.pods or Pods()
    cpu = settings.head_cpu if head else pods.cpu or settings.worker_cpu
    memory = settings.head_memory if head else pods.memory or settings.worker_memory
    limits = {"memory": memory}
    if not head and spec.scale.gpus_per_worker:
        limits[settings.gpu_resource] = str(spec.scale.gpus_per_worker)
    return {"requests": limits | {"cpu": cpu}, "limits": limits | {"cpu": cpu}}


def _placement(spec: PersonalizationJobSpec, pods: Pods, attempt: str, *, head: bool) -> Manifest:
    found: Manifest = {}
    affinity: Manifest = {}
    if pods.node_selector:
        found["nodeSelector"] = {label.key: label.value for label in pods.node_selector}
    if pods.tolerations:
        found["tolerations"] = [
            toleration.model_dump(mode="json", by_alias=True, exclude_none=True)
            for toleration in pods.tolerations
        ]
    if pods.node_affinity:
        expressions = [
            requirement.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for requirement in pods.node_affinity
        ]
        affinity["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": expressions}]
            }
        }
    if not head and spec.scale.workers > 1:
        _place_workers(spec.scale.placement, attempt, found, affinity)
    return found | ({"affinity": affinity} if affinity else {})


def _place_workers(placement: Placement, attempt: str, found: Manifest, affinity: Manifest) -> None:
    """Workers beside or apart from each other; the head goes where there is room."""
    selector = {"matchLabels": {ATTEMPT_LABEL: attempt, ROLE_LABEL: "worker"}}
    term = {"labelSelector": selector, "topologyKey": HOST}
    if placement is Placement.STRICT_PACK:
        affinity["podAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    elif placement is Placement.PACK:
        weighted = [{"weight": 100, "podAffinityTerm": term}]
        affinity["podAffinity"] = {"preferredDuringSchedulingIgnoredDuringExecution": weighted}
    else:
        found["topologySpreadConstraints"] = [
            term | {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
        ]
