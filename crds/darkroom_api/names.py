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
"""Folder of checkpoints, caches and class images; `.darkroom` when unset."""

BUILTIN_DIR_ENV: Final = "DARKROOM_BUILTIN_DIR"
"""Overrides where the files behind `builtin:` URIs are looked for."""
