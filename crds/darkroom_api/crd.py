"""Renders the CustomResourceDefinition from the models: a structural schema, its rules and columns.

Pure: models in, a dict or YAML out. What Kubernetes' structural schemas do not know (`$ref`, a union
with null, `title`) is rewritten here.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

from darkroom_api.job import PersonalizationJob
from darkroom_api.names import CATEGORY, GROUP, KIND, PLURAL, SHORT_NAMES, SINGULAR, VERSION
from darkroom_api.rules import NAME_RULES, SPEC_RULES, TRANSITION_RULES, Rule

HEADER: Final = (
    "# Rendered from crds/darkroom_api by `make crds`: change the models, not this file.\n"
)

_DROPPED: Final = ("title", "additionalProperties", "$ref", "$defs", "anyOf", "const")
_FIRST: Final = ("description", "type", "format", "enum", "default")

_SUCCEEDED: Final = '.status.conditions[?(@.type=="Succeeded")].reason'

COLUMNS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "STATUS", "type": "string", "jsonPath": _SUCCEEDED},
    {"name": "STEP", "type": "integer", "jsonPath": ".status.progress.step"},
    {"name": "%", "type": "integer", "jsonPath": ".status.progress.percent"},
    {
        "name": "LOSS",
        "type": "string",
        "jsonPath": '.status.progress.metrics[?(@.name=="loss")].value',
    },
    {
        "name": "ETA",
        "type": "integer",
        "jsonPath": ".status.progress.etaSeconds",
        "description": "Expected seconds until the last step",
    },
    {"name": "ATTEMPT", "type": "string", "jsonPath": ".status.attempts[-1:].name"},
    {
        "name": "CHECKPOINT",
        "type": "integer",
        "jsonPath": ".status.checkpoint.step",
        "priority": 1,
    },
    {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)
"""What `kubectl get pj` shows; priority 1 only with `-o wide`."""


def render_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of `PersonalizationJob`."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": list(SHORT_NAMES),
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": job_schema()},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [dict(column) for column in COLUMNS],
                }
            ],
        },
    }


def render_crd_text() -> str:
    """The CustomResourceDefinition as YAML."""
    return HEADER + yaml.dump(render_crd(), Dumper=_Dumper, sort_keys=False, width=120)


def job_schema() -> dict[str, Any]:
    """The structural schema of a whole job, with its rules."""
    source = PersonalizationJob.model_json_schema(by_alias=True)
    schema = _structural(source, source["$defs"])
    properties = schema["properties"]
    # The apiserver owns these three: it refuses most restrictions on them.
    properties["metadata"] = {"type": "object"}
    for name in ("apiVersion", "kind"):
        del properties[name]["enum"]
    schema["required"] = ["spec"]
    schema["x-kubernetes-validations"] = list(_validations(NAME_RULES, with_path=False))
    rules = (*SPEC_RULES, *TRANSITION_RULES)
    properties["spec"]["x-kubernetes-validations"] = list(_validations(rules, with_path=True))
    return schema


def _validations(rules: Iterable[Rule], *, with_path: bool) -> Iterable[dict[str, str]]:
    for rule in rules:
        path = {"fieldPath": f".{rule.field}"} if with_path else {}
        yield {"rule": rule.cel, "message": rule.message} | path


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        schema["enum"] = [node["const"]]
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    _simplify_default(schema)
    if "properties" in schema:
        schema["properties"] = {
            name: _structural(inner, definitions) for name, inner in node["properties"].items()
        }
    if "items" in schema:
        schema["items"] = _structural(node["items"], definitions)
        schema.setdefault("x-kubernetes-list-type", "atomic")
    return {key: schema[key] for key in _FIRST if key in schema} | schema


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A node with what `$ref` or a union with null point to; the node's own words win."""
    if "anyOf" in node:
        (inner,) = (choice for choice in node["anyOf"] if choice.get("type") != "null")
        return _resolved(inner, definitions) | {
            key: value for key, value in node.items() if key != "anyOf"
        }
    if "$ref" in node:
        return _resolved(definitions[node["$ref"].rpartition("/")[2]], definitions) | node
    return node


def _simplify_default(schema: dict[str, Any]) -> None:
    """Objects default to `{}` (their fields have defaults of their own), absent ones to nothing."""
    default = schema.pop("default", None)
    if isinstance(default, dict):
        schema["default"] = {}
    elif default is not None and default != []:
        schema["default"] = default


class _Dumper(yaml.SafeDumper):
    """Writes every value in full: kubectl reads anchors, people do not."""

    def ignore_aliases(self, data: object) -> bool:
        return True


# kubectl reads YAML with go-yaml, for which a bare 5e-6 is a number and not the string it is here.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
