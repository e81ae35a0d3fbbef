"""Dependencies: what a package imports is declared, and what is declared is pinned with hashes."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Design, section 1: the API needs few packages, so that everything can import it.
API = ["pydantic", "pyyaml", "pillow", "pi-heif"]
PACKAGES = {
    "crds/darkroom_api": API,
    "local/darkroom_local": sorted({*EXTRAS["trainer"]} & {*EXTRAS["serving"]} | {"ray"}),
    "sampling/darkroom_sampling": sorted({*EXTRAS["trainer"]} & {*EXTRAS["serving"]}),
    "operator/darkroom_operator": PROJECT["dependencies"] + EXTRAS["operator"],
    "trainer/darkroom_trainer": PROJECT["dependencies"] + EXTRAS["trainer"] + EXTRAS["adamw8bit"],
    "serving/darkroom_serving": PROJECT["dependencies"] + EXTRAS["serving"],
    "cli/darkroom": PROJECT["dependencies"],
}
# Names that differ from their distribution's, and parts of a framework that it hands on.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "pydantic_core": "pydantic",
    "starlette": "fastapi",
    "yaml": "pyyaml",
}
PINNED = {
    "base": PROJECT["dependencies"],
    **{name: PROJECT["dependencies"] + extra for name, extra in EXTRAS.items() if name != "dev"},
    "dev": PROJECT["dependencies"] + [one for extra in EXTRAS.values() for one in extra],
}


def imported(folder):
    """Distributions that the modules of a package import, also inside functions."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and not top.startswith("darkroom"):
                    yield canonicalize_name(DISTRIBUTIONS.get(top, top))


def pins(name):
    """What a requirements file holds: versions by distribution, one for each range of Pythons."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = {}
    for distribution, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
        found.setdefault(canonicalize_name(distribution), []).append(version)
    return found


@pytest.mark.parametrize("folder", PACKAGES)
def test_what_a_package_imports_is_declared(folder):
    declared = {canonicalize_name(Requirement(one).name) for one in PACKAGES[folder]}
    assert set(imported(folder)) <= declared


@pytest.mark.parametrize("name", PINNED)
def test_what_is_declared_is_pinned(name):
    pinned = pins(name)
    for requirement in map(Requirement, PINNED[name]):
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement}: run make requirements"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize(
    "path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name
)
def test_every_pin_has_hashes_and_no_file_names_an_index(path):
    text = path.read_text()
    assert "://" not in text
    assert "--index" not in text
    for block in re.split(r"\n(?=\w)", text.strip()):
        assert re.match(r"[\w.-]+==\S+", block), block
        assert "--hash=sha256:" in block, block


@pytest.mark.parametrize("name", [name for name in PINNED if name != "dev"])
def test_a_package_has_one_version_in_all_files(name):
    assert pins(name).items() <= pins("dev").items()
