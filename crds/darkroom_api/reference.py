"""Renders `docs/job-file.md`, the reference of the job file, from the same schema as the CRD."""

from collections.abc import Iterator
from typing import Any, Final

from darkroom_api.crd import job_schema
from darkroom_api.names import DEFAULT_NAMESPACE, MAX_NAME_LENGTH
from darkroom_api.problems import PATTERNS
from darkroom_api.rules import SPEC_RULES
from darkroom_api.status import ConditionType, Reason

EXAMPLE: Final = """\
apiVersion: darkroom.dev/v1alpha1
kind: PersonalizationJob
metadata:
  name: rex
spec:
  baseModel:
    uri: builtin:miniature
  subject:
    kind: Animal
    identifier: sks
    classNoun: dog
    images:
      uri: file:photos
  training:
    maxSteps: 300
    learningRate: "3e-4"
    resolution: 64
  scale:
    gpusPerWorker: 0
    precision: FP32
  output:
    uri: pvc://models
"""
"""A small complete job."""

_INTRODUCTION: Final = f"""\
<!-- Rendered from crds/darkroom_api by `make crds`: change the models, not this file. -->
# The job file

One file says what is learnt and how. `darkroom train job.yaml` runs it here, and it is what \
`kubectl apply` sends to a cluster; both check it by the same rules. `darkroom lint job.yaml` says \
what is wrong with it. A small complete job:

```yaml
{EXAMPLE}```

Everything else has a default. Numbers with a point are written in quotes (`"5e-6"`): Kubernetes \
specs hold no floats. An unknown field is an error; an empty one counts as absent. After creation \
a job can't be changed, except `spec.runPolicy` and `spec.output.deletionPolicy`.

`metadata.name` names the job and the model that it makes: lower-case letters, digits and `-`, \
at most {MAX_NAME_LENGTH} characters. `metadata.namespace` is `{DEFAULT_NAMESPACE}` when absent.
"""


def render_reference() -> str:
    """The reference as Markdown."""
    schema = job_schema()["properties"]
    parts = [
        _INTRODUCTION,
        *_sections("spec", schema["spec"]),
        _rules(),
        *_sections("status", schema["status"]),
        _conditions(),
    ]
    return "\n".join(parts)


def _sections(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """One section for an object, then one for each object in it."""
    lines = [f"## {path}", "", schema["description"], ""]
    lines += ["| field | type | default | bounds | what it is |", "|---|---|---|---|---|"]
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        lines.append(_row(path, name, field, required=name in required))
    yield "\n".join(lines) + "\n"
    for name, field in schema["properties"].items():
        inner = field.get("items", field)
        if "properties" in inner:
            suffix = "[]" if "items" in field else ""
            yield from _sections(f"{path}.{name}{suffix}", inner)


def _row(path: str, name: str, field: dict[str, Any], *, required: bool) -> str:
    default = "**required**" if required else _default(field)
    cells = (f"`{name}`", _type(path, name, field), default, _bounds(field), field["description"])
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _type(path: str, name: str, field: dict[str, Any]) -> str:
    if "enum" in field:
        return (
            "[a reason](#reasons)" if name == "reason" else " or ".join(map(_code, field["enum"]))
        )
    if "items" in field:
        return f"list: {_type(path, f'{name}[]', field['items'])}"
    if "properties" in field:
        return f"[object](#{_anchor(f'{path}.{name}')})"
    return str(field["type"])


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return "".join(char for char in heading.lower() if char.isalnum())


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    if default is None or default == {}:
        return ""
    return _code({True: "true", False: "false"}[default] if isinstance(default, bool) else default)


def _code(value: object) -> str:
    return f"`{value}`"


def _bounds(field: dict[str, Any]) -> str:
    found = []
    if "maximum" in field:
        found.append(f"{field['minimum']} to {field['maximum']}")
    if "multipleOf" in field:
        found.append(f"a multiple of {field['multipleOf']}")
    if "maxItems" in field:
        found.append(f"{field.get('minItems', 0)} to {field['maxItems']} items")
    if "pattern" in field:
        found.append(PATTERNS[field["pattern"]].removeprefix("use ").removeprefix("write "))
    elif "maxLength" in field:
        found.append(f"{field.get('minLength', 0)} to {field['maxLength']} characters")
    return "; ".join(found)


def _rules() -> str:
    rows = "\n".join(f"- `spec.{rule.field}`: {rule.message}." for rule in SPEC_RULES)
    return f"## Rules over several fields\n\n{rows}\n"


def _conditions() -> str:
    types = ", ".join(f"`{condition}`" for condition in ConditionType)
    rows = "\n".join(
        f"| `{reason}` | {'yes' if reason.is_terminal else 'no'} | {reason.hint} |"
        for reason in Reason
    )
    return (
        f"## Conditions\n\n{types}. `Succeeded` sums up: its reason is the STATUS column of kubectl.\n"
        f"\n## Reasons\n\n| reason | the job is over | what to do next |\n|---|---|---|\n{rows}\n"
    )
