"""Names that are fixed once for all parts: API group, labels, environment, files."""

from typing import Final

GROUP: Final = "darkroom.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "PersonalizationJob"
PLURAL: Final = "personalizationjobs"
SINGULAR: Final = "personalizationjob"
SHORT_NAMES: Final = ("pj", "pjob")
CATEGORY: Final = "darkroom"

FIELD_MANAGER: Final = "darkroom-operator"
"""Field manager of every server-side apply by the operator."""

METRIC_PREFIX: Final = "darkroom_"

DEFAULT_NAMESPACE: Final = "default"

MAX_NAME_LENGTH: Final = 40
"""Longest job name in characters: a RayJob is called `<job>-<attempt>` and KubeRay allows 47."""

MANIFEST_FILE: Final = "manifest.json"
"""Written last into a checkpoint or model folder: its presence and validity mean "complete"."""

LATEST_LINK: Final = "latest"
"""Symbolic link beside the digests of a model in a registry; replaced atomically."""

VOLUMES_ENV: Final = "DARKROOM_VOLUMES"
"""Folder under which `pvc://CLAIM/path` is found as `CLAIM/path`; the current folder when unset."""

WORK_DIR_ENV: Final = "DARKROOM_WORK_DIR"
"""Folder of checkpoints, caches and class images; `WORK_DIR` when unset."""

WORK_DIR: Final = ".darkroom"
"""Where they go, in the current folder, unless somebody says otherwise."""

BUILTIN_DIR_ENV: Final = "DARKROOM_BUILTIN_DIR"
"""Overrides where the files behind `builtin:` URIs are looked for."""

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
"""Kubernetes' label for what keeps an object; the operator writes its field manager there."""

JOB_LABEL: Final = "darkroom.dev/job"
"""On everything that the operator makes for a job; the value is the job's name."""

ATTEMPT_LABEL: Final = "darkroom.dev/attempt"
"""On the RayJob and the pods of an attempt; the value is the RayJob's name."""

RENDERED_ANNOTATION: Final = "darkroom.dev/rendered"
"""On a RayJob: digest of what it was rendered to, by which a later rendering is told apart."""

OPERATORS_NAMESPACE: Final = "kube-public"
"""Namespace where each operator publishes what it watches: every user of a cluster may read there."""

OPERATOR_LABEL: Final = "darkroom.dev/operator"
"""On that ConfigMap; its `namespaces` are separated by commas, and empty for the whole cluster."""

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
"""Kueue's label: copied from a job to its RayJobs, whose suspension is then Kueue's."""

QUEUE_PRIORITY_LABEL: Final = "kueue.x-k8s.io/priority-class"
"""Kueue's label for the priority in a queue, copied as well."""

FINALIZER: Final = "darkroom.dev/model"
"""On jobs with `output.deletionPolicy: Delete` until their model is removed."""

JOB_FILE: Final = "/etc/darkroom/job.json"
"""Where the pods of an attempt find the job."""

PHOTOS_DIR_ENV: Final = "DARKROOM_PHOTOS_DIR"
"""Folder where `subject.images.configMap` is mounted; only on a cluster."""

PROGRESS_URL_ENV: Final = "DARKROOM_PROGRESS_URL"
"""Where a run PUTs its `ProgressReport`; nowhere when unset."""

PROGRESS_TOKEN_FILE_ENV: Final = "DARKROOM_PROGRESS_TOKEN_FILE"  # noqa: S105 - a path, not a token
"""File with the bearer token of these requests; read anew for each, since kubelet renews it."""

PROGRESS_AUDIENCE: Final = "darkroom.dev/progress"
"""Audience of that token: it is good for nothing else."""

EXIT_INTERRUPTED: Final = 75
"""Exit status of a run that was asked to stop and saved: 0 only says that the model is published."""

FAILURE_PREFIX: Final = "darkroom: "
"""Begins the last line of a failed run's log: `darkroom: <Reason>: <message>`."""

JOB_UID_ENV: Final = "DARKROOM_JOB_UID"
"""uid of the object that an attempt is for; a later object of the same name is another job."""

LOG_COPY_ENV: Final = "DARKROOM_LOG_COPY"
"""File that gets a copy of what the driver prints: Ray keeps it in a file of its own."""

JOB_ENV: Final = "DARKROOM_JOB"
"""The job as JSON, where an attempt has no file of it: on a Ray cluster that the operator did not start."""
