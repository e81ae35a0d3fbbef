"""The API's surface is frozen: fields, defaults, enum values, bounds, rules (`tests/data/api-surface.txt`)."""

from pathlib import Path

from darkroom_api.crd import job_schema
from darkroom_api.rules import NAME_RULES, SPEC_RULES, TRANSITION_RULES
from darkroom_api.status import Reason

FROZEN = Path(__file__).parents[1] / "data" / "api-surface.txt"


BOUNDS = (
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
)


def surface(schema, path):
    """One line for each field: its path, type, whether it is required, default, enum values, bounds."""
    required = schema.get("required", [])
    for name, inner in sorted(schema.get("properties", {}).items()):
        where = f"{path}.{name}".removeprefix(".")
        words = [where, inner["type"]]
        words += ["required"] if name in required else []
        words += [f"default={inner['default']!r}"] if "default" in inner else []
        words += ["|".join(inner["enum"])] if "enum" in inner else []
        words += [f"{bound}={inner[bound]}" for bound in BOUNDS if bound in inner]
        yield " ".join(words)
        yield from surface(inner, where)
        if "items" in inner:
            yield from surface({"properties": {f"{name}[]": inner["items"]}}, path)


def rules():
    for rule in (*NAME_RULES, *SPEC_RULES, *TRANSITION_RULES):
        yield f"rule {rule.field}: {rule.cel}"


def test_the_surface_is_the_frozen_one():
    lines = [*surface(job_schema(), ""), *rules()]
    frozen = FROZEN.read_text().splitlines()
    gone, new = sorted(set(frozen) - set(lines)), sorted(set(lines) - set(frozen))
    assert lines == frozen, (
        f"The API changed. Gone: {gone}. New: {new}.\n"
        "Fields may be added; nothing else may change silently. When the change is meant, say so in "
        f"CHANGELOG.md and write the new lines into {FROZEN.name}:\n" + "\n".join(lines)
    )


def test_every_reason_says_what_to_do_next():
    assert len(set(Reason)) == len(Reason.__members__)
    for reason in Reason:
        assert reason.hint
        assert reason.value[0].isupper()
        assert reason.value.isalpha()
        assert reason.name.replace("_", "").lower() == reason.value.lower()


def test_the_reasons_that_end_a_job():
    going_on = {reason.value for reason in Reason if not reason.is_terminal}
    assert going_on == {
        "Pending", "SpecAccepted", "Queued", "QuotaReserved", "Starting", "Preparing", "Training",
        "Publishing", "CheckpointWritten", "NoCheckpoint", "MakingProgress", "NoProgress",
        "NotSuspended", "Suspending", "Suspended", "Retrying", "Preempted", "NodeLost",
        "WorkerDied", "RayHeadDied", "HostOutOfMemory", "CollectiveFailed", "GpuFailed",
        "Unschedulable", "ImagePullFailed", "VolumeMissing", "LaunchRefused", "KubeRayMissing",
        "AlreadyRunning", "RayNotStarted", "CheckpointFailed", "PortInUse", "NameTaken",
        "PodsRefused", "PodNotStarted", "StartDeadlineExceeded", "Deleting", "CleanupFailed",
    }  # fmt: skip
