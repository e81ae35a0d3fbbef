"""The values: closed, explained, and refused with words that say what is wrong."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "darkroom"

WRONG = {
    "a misspelt key": ({"operator": {"replica": 2}}, "'/operator'", "'replica' not allowed"),
    "a key at the top": ({"replicas": 2}, "at ''", "'replicas' not allowed"),
    "a key deep inside": (
        {"trainer": {"image": {"tags": "1"}}},
        "'/trainer/image'",
        "'tags' not allowed",
    ),
    "a key of a toleration": (
        {"operator": {"tolerations": [{"keys": "x"}]}},
        "'/operator/tolerations/0'",
        "'keys' not allowed",
    ),
    "a word for a number": ({"operator": {"replicas": "two"}}, "'/operator/replicas'", "integer"),
    "a string for a switch": ({"crds": {"install": "yes"}}, "'/crds/install'", "boolean"),
    "too many replicas": ({"operator": {"replicas": 50}}, "'/operator/replicas'", "maximum"),
    "an unknown policy": (
        {"trainer": {"image": {"pullPolicy": "Sometimes"}}},
        "'/trainer/image/pullPolicy'",
        "must be one of 'Always', 'IfNotPresent', 'Never'",
    ),
    "an unknown level": (
        {"operator": {"logLevel": "loud"}},
        "'/operator/logLevel'",
        "must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'",
    ),
    "a privileged port": ({"metrics": {"port": 80}}, "'/metrics/port'", "minimum"),
    "a namespace with capitals": (
        {"watchNamespaces": ["Team-A"]},
        "'/watchNamespaces/0'",
        "'Team-A' does not match",
    ),
    "a namespace twice": (
        {"watchNamespaces": ["a", "a"]},
        "'/watchNamespaces'",
        "items at 0 and 1 are equal",
    ),
    "a short digest": (
        {"operator": {"image": {"digest": "sha256:abc"}}},
        "'/operator/image/digest'",
        "does not match",
    ),
    "a tag in the repository": (
        {"operator": {"image": {"repository": "darkroom/operator:main"}}},
        "'/operator/image/repository'",
        "does not match",
    ),
    "a size without a unit": ({"registry": {"size": "50"}}, "'/registry/size'", "does not match"),
    "an unknown access mode": (
        {"registry": {"accessModes": ["ReadOnlyMany"]}},
        "'/registry/accessModes/0'",
        "must be one of",
    ),
    "an unknown launcher": ({"launcher": {"kind": "Slurm"}}, "'/launcher/kind'", "must be one of"),
    "an address without a scheme": (
        {"launcher": {"address": "ray:8265"}},
        "'/launcher/address'",
        "does not match",
    ),
    "two sources of a variable": (
        {
            "operator": {
                "extraEnv": [
                    {
                        "name": "X",
                        "valueFrom": {
                            "fieldRef": {"fieldPath": "metadata.name"},
                            "secretKeyRef": {"name": "a", "key": "b"},
                        },
                    }
                ]
            }
        },
        "'/operator/extraEnv/0/valueFrom'",
        "maxProperties",
    ),
    "no try at all": (
        {"operator": {"tuning": {"cleanupAttempts": 0}}},
        "'/operator/tuning/cleanupAttempts'",
        "minimum",
    ),
    "a number for a label": ({"commonLabels": {"a": 1}}, "'/commonLabels/a'", "string"),
    "one port for two things": (
        {"metrics": {"port": 8080}},
        "operator.port and metrics.port are both 8080",
        "give them different ports",
    ),
    "Ray jobs without an address": (
        {"launcher": {"kind": "ray-jobs"}},
        "launcher.address",
        "http://ray-head.ray.svc:8265",
    ),
    "a registry nobody can use": (
        {"watchNamespaces": ["a"], "registry": {"namespaces": ["b"]}},
        '"b"',
        "not among watchNamespaces",
    ),
}


@pytest.fixture(scope="module")
def render(load_script):
    return load_script("charts/render.py")


@pytest.fixture(scope="module")
def schema():
    return json.loads((CHART / "values.schema.json").read_text())


@pytest.fixture(scope="module")
def values():
    return yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize(("wrong", "where", "what"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_refused_with_its_place_and_reason(chart, refused, wrong, where, what):
    with pytest.raises(refused) as refusal:
        chart.render(wrong)
    message = str(refusal.value)
    assert where in message
    assert what in message


def objects_of(schema):
    """Every part of a schema that describes an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects_of(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects_of(part)


def test_the_schema_is_a_schema_and_the_defaults_meet_it(schema, values):
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(values)


def test_the_schema_is_closed_everywhere(schema):
    for part in objects_of(schema):
        if part is schema["properties"]["global"]:
            continue
        if "properties" in part:
            assert part["additionalProperties"] is False, part
        else:
            # A map: its values have a type, and its keys a pattern.
            assert isinstance(part["additionalProperties"], dict), part
            assert "propertyNames" in part, part


def test_every_string_that_becomes_a_name_has_a_pattern(schema):
    loose = [
        path
        for path, part in _leaves(schema["properties"])
        if part.get("type") == "string" and not {"pattern", "enum", "maxLength"} & set(part)
    ]
    assert loose == []


def _leaves(properties, prefix=""):
    for key, part in properties.items():
        path = f"{prefix}{key}"
        if "properties" in part:
            yield from _leaves(part["properties"], f"{path}.")
        else:
            yield path, part


def test_schema_and_values_have_the_same_keys(schema, values):
    def keys(value, part, prefix=""):
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if not isinstance(value, dict) or not value or "properties" not in part:
            return {prefix}
        assert set(value) <= set(part["properties"]), prefix
        missing = set(part["properties"]) - set(value) - {"global"}
        assert not missing, f"{prefix}: {missing} is in the schema and not in values.yaml"
        found = set()
        for key, child in value.items():
            found |= keys(child, part["properties"][key], f"{prefix}.{key}")
        return found

    assert keys(values, schema)


def test_every_value_is_explained(render, values):
    comments = render.documented((CHART / "values.yaml").read_text())

    def unexplained(value, path=""):
        if path in comments:
            return
        if isinstance(value, dict) and value:
            for key, child in value.items():
                yield from unexplained(child, f"{path}.{key}" if path else key)
        else:
            yield path

    assert list(unexplained(values)) == []
    for path, comment in comments.items():
        assert comment.endswith("."), path


OTHER = {
    "operator.logLevel": "DEBUG",
    "commonLabels": {"a": "b"},
    "watchNamespaces": ["other"],
    "operator.image.digest": "sha256:" + "0" * 64,
    "operator.imagePullSecrets": ["other"],
    "operator.resources": {"requests": {"cpu": "7m"}},
    "operator.nodeSelector": {"a": "b"},
    "operator.tolerations": [{"operator": "Exists"}],
    "operator.affinity": {"podAffinity": {}},
    "operator.topologySpread.whenUnsatisfiable": "DoNotSchedule",
    "operator.extraEnv": [{"name": "OTHER", "value": "1"}],
    "networkPolicy.metricsNamespaces": ["other"],
    "networkPolicy.apiServerPorts": [7443],
    "launcher.kind": "ray-jobs",
    "launcher.address": "http://other:8265",
    "trainer.image.digest": "sha256:" + "0" * 64,
    "trainer.imagePullSecrets": ["other"],
    "trainer.rayVersion": "9.9.9",
    "trainer.head.cpu": "7",
    "trainer.head.memory": "7Gi",
    "trainer.worker.cpu": "7",
    "trainer.worker.memory": "7Gi",
    "trainer.gpuResource": "amd.com/gpu",
    "trainer.scratchSize": "7Gi",
    "trainer.fileRoots": ["/other"],
    "registry.namespaces": ["other"],
    "registry.size": "7Gi",
    "registry.accessModes": ["ReadWriteMany"],
}
"""A value that differs from the default, where its type doesn't say one."""

NEEDS = {
    "rbac.releaseDeletedNamespaces": {"watchNamespaces": ["team-a"]},
    "launcher.kind": {"launcher": {"address": "http://ray:8265"}},
    "launcher.tokenSecret.key": {"launcher": {"tokenSecret": {"name": "token"}}},
}
"""What must be set for a value to matter."""


def nested(path, value):
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def merged(one, other):
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    shared = {key: merged(one[key], other[key]) for key in one.keys() & other.keys()}
    return one | other | shared


def test_every_value_does_something(chart, values, render):
    for path in render.documented((CHART / "values.yaml").read_text()):
        if path.startswith("crds."):
            continue  # test_the_crd_is_the_projects_own_and_stays
        default = render.default_of(values, path)
        match default:
            case _ if path in OTHER:
                other = OTHER[path]
            case bool():
                other = not default
            case int():
                other = default + 1
            case str() if path.endswith("pullPolicy"):
                other = "Always"
            case str():
                other = "other"
            case _:
                other = {"a": "b"}
        before = merged({"crds": {"install": False}}, NEEDS.get(path, {}))
        after = merged(before, nested(path, other))
        assert chart.text(before) != chart.text(after), path


@pytest.mark.parametrize(("cpu", "told"), [(1, "1"), (1.5, "1.5"), ("700m", "700m")])
def test_cpus_are_a_number_or_a_quantity(chart, cpu, told):
    text = chart.text({"trainer": {"worker": {"cpu": cpu}}})
    assert f'name: DARKROOM_WORKER_CPU\n              value: "{told}"' in text


def test_names_are_lower_camel_case(render):
    for path in render.documented((CHART / "values.yaml").read_text()):
        for key in path.split("."):
            assert key[0].islower(), path
            assert key.isalnum(), path


def test_the_copies_in_the_chart_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "charts" / "render.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_sees_a_stale_copy(render, tmp_path, monkeypatch, capsys):
    source = tmp_path / "crd.yaml"
    source.write_text("kind: Other\n")
    monkeypatch.setattr(render, "CRD", source)
    monkeypatch.setattr(sys, "argv", ["render.py", "--check"])
    assert render.main() == 1
    assert "run python charts/render.py" in capsys.readouterr().out


def test_the_readme_names_every_value(render):
    readme = (CHART / "README.md").read_text()
    for path in render.documented((CHART / "values.yaml").read_text()):
        assert f"| `{path}` |" in readme


def test_the_chart_has_the_projects_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]
    images = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    assert [image["image"] for image in images] == [
        f"darkroom/{name}:{project['version']}" for name in ("operator", "trainer", "serving")
    ]
