"""A job to vary, and the apiserver's admission of it: strict fields, defaults, schema, CEL."""

import copy
import functools
import re
from datetime import datetime
from pathlib import Path

import cel
import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SMALL_JOB = {
    "apiVersion": "darkroom.dev/v1alpha1",
    "kind": "PersonalizationJob",
    "metadata": {"name": "rex"},
    "spec": {
        "baseModel": {"uri": "builtin:miniature"},
        "subject": {
            "kind": "Animal",
            "identifier": "sks",
            "classNoun": "dog",
            "images": {"uri": "file:photos"},
        },
        "output": {"uri": "pvc://models"},
    },
}
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(rf"{LABEL.pattern}(\.{LABEL.pattern})*")


@pytest.fixture
def small_job():
    """A job with only what is required; each test gets its own."""
    return copy.deepcopy(SMALL_JOB)


@pytest.fixture(scope="session")
def crd():
    """The CustomResourceDefinition as it is committed."""
    return yaml.safe_load((ROOT / "crds/darkroom.dev_personalizationjobs.yaml").read_text())


@pytest.fixture(scope="session")
def apiserver(crd):
    """Does what kube-apiserver does with a job, by the committed CRD."""
    return Apiserver(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


class Apiserver:
    """Admission of one kind: `kubectl apply` with strict field validation (its default)."""

    def __init__(self, schema):
        self.schema = schema
        formats = jsonschema.FormatChecker(formats=())
        formats.checks("date-time", raises=ValueError)(_is_time)
        checker = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": _pattern})
        self.validator = checker(_strict(schema), format_checker=formats)

    def refusals(self, job, old=None):
        """Why a job is refused; empty when it is stored."""
        stored = self.stored(job)
        if found := list(_native(stored)):
            return found
        if found := [f"{error.json_path}: {error.message}" for error in self.errors(stored)]:
            return found
        return list(self.broken_rules(stored, self.stored(old) if old else None))

    def stored(self, job):
        """The job as it would be read back: nulls dropped, defaults filled in."""
        return _defaulted(_stored(job), self.schema)

    def errors(self, stored):
        return self.validator.iter_errors(stored)

    def broken_rules(self, stored, old=None):
        """Messages of the CEL rules that a stored job breaks."""
        spec_schema, old_spec = self.schema["properties"]["spec"], old and old["spec"]
        levels = [(self.schema, stored, old), (spec_schema, stored["spec"], old_spec)]
        for schema, value, before in levels:
            context = cel.Context({"self": value, "oldSelf": before or {}})
            for rule in schema["x-kubernetes-validations"]:
                if "oldSelf" in rule["rule"] and before is None:
                    continue
                if _program(rule["rule"]).execute(context) is not True:
                    yield f"{rule.get('fieldPath', '')}: {rule['message']}"


@functools.cache
def _program(expression):
    return cel.compile(expression)


def _stored(value):
    if isinstance(value, dict):
        return {str(key): _stored(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_stored(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _defaulted(value, schema):
    if isinstance(value, dict):
        filled = dict(value)
        for name, inner in schema.get("properties", {}).items():
            if name not in filled and "default" in inner:
                filled[name] = copy.deepcopy(inner["default"])
            if name in filled:
                filled[name] = _defaulted(filled[name], inner)
        return filled
    if isinstance(value, list):
        return [_defaulted(item, schema.get("items", {})) for item in value]
    return value


def _strict(schema):
    """The schema with unknown fields refused, as kubectl asks for; the metadata is not its business."""
    strict = {key: value for key, value in schema.items() if key not in ("properties", "items")}
    if "properties" in schema:
        strict["properties"] = {key: _strict(inner) for key, inner in schema["properties"].items()}
        strict["additionalProperties"] = False
    if "items" in schema:
        strict["items"] = _strict(schema["items"])
    return strict


def _native(job):
    """What Kubernetes checks of every object."""
    if job.get("apiVersion") != "darkroom.dev/v1alpha1" or job.get("kind") != "PersonalizationJob":
        yield "no matches for kind"
    metadata = job.get("metadata")
    if not isinstance(metadata, dict):
        yield "metadata: not an object"
        return
    name, namespace = metadata.get("name"), metadata.get("namespace", "default")
    if not isinstance(name, str) or len(name) > 253 or not SUBDOMAIN.fullmatch(name):
        yield "metadata.name: not a DNS subdomain"
    if not isinstance(namespace, str) or len(namespace) > 63 or not LABEL.fullmatch(namespace):
        yield "metadata.namespace: not a DNS label"


def _is_time(value):
    # A format is about text; what else there is, the type refuses.
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


def _pattern(_validator, pattern, value, _schema):
    # Go's $ is the end of the text; Python's is also before a last newline.
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern}")
