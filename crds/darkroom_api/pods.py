"""`spec.pods`: what a user may say about a job's pods. Fields, never a pod template.

Nothing here can lift a restriction: no host path, no capability, no image, no command.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from darkroom_api.fields import ApiModel, ObjectName

QUANTITY_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
LABEL_KEY_PATTERN: Final = (
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)
LABEL_VALUE_PATTERN: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
ENV_NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
CONFIG_KEY_PATTERN: Final = r"^[-._a-zA-Z0-9]+$"

Quantity = Annotated[str, StringConstraints(pattern=QUANTITY_PATTERN, min_length=1, max_length=16)]
LabelKey = Annotated[
    str, StringConstraints(pattern=LABEL_KEY_PATTERN, min_length=1, max_length=253)
]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE_PATTERN, max_length=63)]


class TolerationOperator(StrEnum):
    """How a toleration compares a taint's value."""

    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class NodeOperator(StrEnum):
    """How a requirement compares a node's label."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class NodeLabel(ApiModel):
    """A label that a node must have."""

    key: LabelKey
    """The label's key."""

    value: LabelValue
    """The label's value."""


class Toleration(ApiModel):
    """A taint that does not keep the pods away."""

    key: LabelKey | None = None
    """The taint's key; any when absent."""

    operator: TolerationOperator = TolerationOperator.EQUAL
    """How the value is compared."""

    value: LabelValue | None = None
    """The taint's value, for `Equal`."""

    effect: TaintEffect | None = None
    """The taint's effect; any when absent."""


class NodeRequirement(ApiModel):
    """Something that must be true of a node's label."""

    key: LabelKey
    """The label's key."""

    operator: NodeOperator
    """How the label is compared."""

    values: Annotated[tuple[LabelValue, ...], Field(max_length=16, strict=False)] = ()
    """Values for `In` and `NotIn`."""


class ConfigMapKeyRef(ApiModel):
    """One entry of a ConfigMap."""

    name: ObjectName
    """Name of the ConfigMap in the job's namespace."""

    key: Annotated[str, StringConstraints(pattern=CONFIG_KEY_PATTERN, min_length=1, max_length=253)]
    """Key of the entry."""


class EnvVar(ApiModel):
    """An environment variable whose value is somewhere else."""

    name: Annotated[str, StringConstraints(pattern=ENV_NAME_PATTERN, min_length=1, max_length=128)]
    """Name of the variable; those that the operator sets itself win."""

    config_map_key_ref: ConfigMapKeyRef
    """Where the value is."""


class SecretRef(ApiModel):
    """Names a Secret; its content is mounted into the pods and read by nobody else."""

    name: ObjectName
    """Name of the Secret in the job's namespace."""


class Pods(ApiModel):
    """What a job's pods are given on a cluster; without meaning on a laptop."""

    cpu: Quantity | None = None
    """CPUs of a worker; the administrator's default when absent."""

    memory: Quantity | None = None
    """Memory of a worker, requested and limited; the administrator's default when absent."""

    node_selector: Annotated[tuple[NodeLabel, ...], Field(max_length=16, strict=False)] = ()
    """Labels that the nodes must have, all of them."""

    node_affinity: Annotated[tuple[NodeRequirement, ...], Field(max_length=8, strict=False)] = ()
    """What else must be true of the nodes' labels, all of it."""

    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16, strict=False)] = ()
    """Taints that do not keep the pods away."""

    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""

    service_account_name: ObjectName | None = None
    """ServiceAccount of the pods; none of its tokens is mounted but the one for progress."""

    env: Annotated[tuple[EnvVar, ...], Field(max_length=32, strict=False)] = ()
    """Extra environment variables, by reference."""

    secret_ref: SecretRef | None = None
    """Credentials for the base model and the pictures: keys of the Secret become files, and the
    Hugging Face token is read from its key `token`."""
