"""The CRD: valid for the apiserver, small, complete, and what the models say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from darkroom_api.__main__ import CRD_FILE, REFERENCE_FILE, main
from darkroom_api.crd import render_crd, render_crd_text
from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.load import _Loader
from darkroom_api.problems import PATTERNS
from darkroom_api.reference import EXAMPLE, render_reference

ROOT = Path(__file__).parents[2]


def walk(schema, path=""):
    """Every node of a schema with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")


@pytest.fixture(scope="module")
def version(crd):
    return crd["spec"]["versions"][0]


@pytest.fixture(scope="module")
def nodes(version):
    return dict(walk(version["schema"]["openAPIV3Schema"]))


def test_the_crd_is_valid_for_apiextensions_v1(crd):
    latest = kubernetes_validate.latest_version()
    assert kubernetes_validate.validate(crd, latest, strict=True)


def test_a_misspelt_word_in_the_crd_would_be_found(crd):
    broken = crd | {"spec": crd["spec"] | {"scop": "Namespaced"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_the_crd_has_at_most_64_kib():
    assert (ROOT / CRD_FILE).stat().st_size <= 64 * 1024


def test_kubectl_reads_what_was_meant():
    # go-yaml takes a bare 5e-6 for a number; load.py's loader reads as it does.
    assert yaml.load(render_crd_text(), Loader=_Loader) == render_crd()


def test_every_field_is_described(nodes):
    # The apiserver owns metadata and refuses words about it; items are described by their list.
    bare = [path for path, node in nodes.items() if len(node.get("description", "")) < 8]
    assert [path for path in bare if path != ".metadata" and not path.endswith("[]")] == []


def test_every_string_and_list_is_bounded(nodes):
    for path, node in nodes.items():
        if path in (".apiVersion", ".kind"):
            continue
        if node["type"] == "string":
            assert "enum" in node or "maxLength" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
            assert "x-kubernetes-list-type" in node, path
        if node["type"] == "integer":
            assert {"minimum", "maximum"} <= node.keys(), path


def test_the_schema_is_structural(nodes):
    forbidden = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "nullable"}
    for path, node in nodes.items():
        assert not forbidden & node.keys(), path
        assert node["type"] in {"object", "array", "string", "integer", "boolean"}, path
        assert "additionalProperties" not in node, path
        assert node.get("default", "") is not None, path


def test_no_number_of_the_api_is_a_float(nodes):
    assert [path for path, node in nodes.items() if node["type"] == "number"] == []


def test_every_pattern_has_words(nodes):
    patterns = {node["pattern"] for node in nodes.values() if "pattern" in node}
    assert patterns <= PATTERNS.keys()
    for pattern in patterns:
        assert pattern.startswith("^")
        assert pattern.endswith("$")
        assert re.compile(pattern)


def test_conditions_metrics_and_attempts_are_lists_by_key(nodes):
    for path, key in (
        (".status.conditions", "type"),
        (".status.progress.metrics", "name"),
        (".status.attempts", "name"),
    ):
        assert nodes[path]["x-kubernetes-list-type"] == "map"
        assert nodes[path]["x-kubernetes-list-map-keys"] == [key]
        assert key in nodes[f"{path}[]"]["required"]


def test_the_printer_columns(version):
    columns = version["additionalPrinterColumns"]
    names = [column["name"] for column in columns if column.get("priority", 0) == 0]
    assert names == ["STATUS", "STEP", "%", "LOSS", "ETA", "ATTEMPT", "AGE"]
    assert columns[0]["jsonPath"] == '.status.conditions[?(@.type=="Succeeded")].reason'


def test_the_columns_name_fields_that_exist(version, nodes):
    for column in version["additionalPrinterColumns"]:
        path = re.sub(r"\[[^\]]*\]", "[]", column["jsonPath"])
        assert path in nodes or path.startswith(".metadata."), column["name"]


def test_status_is_a_subresource_and_the_names_are_as_designed(crd, version):
    assert version["subresources"] == {"status": {}}
    assert crd["metadata"]["name"] == "personalizationjobs.darkroom.dev"
    assert crd["spec"]["names"]["shortNames"] == ["pj", "pjob"]
    assert crd["spec"]["names"]["categories"] == ["darkroom"]


def test_rules_blame_fields_that_exist(nodes):
    for rule in nodes[".spec"]["x-kubernetes-validations"]:
        assert f".spec{rule['fieldPath']}" in nodes, rule


def test_defaults_of_the_schema_are_those_of_the_models(apiserver, small_job):
    stored = apiserver.stored(small_job)["spec"]
    model = PersonalizationJobSpec.model_validate_json(json.dumps(small_job["spec"]))
    assert stored == model.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_the_reference_has_every_field_of_the_spec(nodes):
    text = render_reference()
    for path in nodes:
        if path.startswith(".spec."):
            assert f"| `{path.removesuffix('[]').rpartition('.')[2]}` |" in text, path


def test_links_in_the_reference_lead_somewhere():
    text = render_reference()
    headings = {
        re.sub(r"[^a-z0-9]", "", heading.lower())
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings


def test_the_example_of_the_reference_stands_at_its_beginning():
    assert EXAMPLE in render_reference()[:1500]


def test_what_is_committed_is_what_the_models_say():
    command = [sys.executable, "-m", "darkroom_api", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_check_names_each_file_that_differs(tmp_path, capsys):
    (tmp_path / "crds").mkdir()
    (tmp_path / "docs").mkdir()
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    (tmp_path / CRD_FILE).write_text("kind: Old\n")
    (tmp_path / REFERENCE_FILE).unlink()
    assert main(["--check"], tmp_path) == 1
    complaints = capsys.readouterr().err.splitlines()
    assert [line.split(" is not ")[0] for line in complaints] == [
        str(tmp_path / CRD_FILE),
        str(tmp_path / REFERENCE_FILE),
    ]
    assert all(line.endswith("run make crds") for line in complaints)


def test_an_unknown_argument_is_a_usage_error(tmp_path, capsys):
    assert main(["--chek"], tmp_path) == 2
    assert "usage" in capsys.readouterr().err
