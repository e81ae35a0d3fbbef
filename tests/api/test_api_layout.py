"""The house: one package a source root, imports in one direction, and a README that tells the truth."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.main import get_command

from darkroom_api.status import Reason

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "crds": "darkroom_api",
    "local": "darkroom_local",
    "sampling": "darkroom_sampling",
    "operator": "darkroom_operator",
    "trainer": "darkroom_trainer",
    "serving": "darkroom_serving",
    "cli": "darkroom",
}
TEXT = (".cfg", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", "")


def sources():
    """All files but those that .gitignore names; git itself may be missing, or distrust the folder."""
    built = {"__pycache__", "build", "demo", "dist", "models"}
    for top in ROOT.iterdir():
        if top.name not in built and (top.name == ".ci" or not top.name.startswith(".")):
            for path in (top, *top.rglob("*")):
                if path.is_file() and not built & set(path.relative_to(ROOT).parts[:-1]):
                    yield path


SOURCES = list(sources())
MODULES = [path for path in SOURCES if path.suffix == ".py"]


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text()


def code(text):
    """What stands in code blocks and between backticks, one line each, without comments."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [*re.findall(r"`([^`]+)`", outside), *"\n".join(blocks).splitlines()]
    return [line.partition("#")[0].strip() for line in lines]


def targets_in(text):
    return {target for line in code(text) for target in re.findall(r"^make ([a-z-]+)", line)}


def commands_in(text):
    return {command for line in code(text) for command in re.findall(r"^darkroom ([a-z]+)", line)}


@pytest.mark.parametrize("source", PACKAGES)
def test_a_source_root_holds_exactly_one_package_and_no_loose_module(source):
    packages = [path.parent.name for path in (ROOT / source).glob("*/__init__.py")]
    assert packages == [PACKAGES[source]]
    assert list((ROOT / source).glob("*.py")) == []
    assert (ROOT / source / PACKAGES[source] / "py.typed").exists()


def test_the_folder_operator_does_not_shadow_the_standard_library():
    command = [sys.executable, "-c", "import operator, json; print(operator.__file__)"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not found.startswith(str(ROOT / "operator"))


def test_test_files_have_unique_names_and_only_what_they_share_is_a_package():
    tests = ROOT / "tests"
    names = Counter(path.name for path in tests.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
    inits = {path.relative_to(tests).parts[:2] for path in tests.rglob("__init__.py")}
    assert inits == {("support", "darkroom_testing")}


def test_every_module_says_what_it_is():
    assert MODULES
    bare = [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [str(path.relative_to(ROOT)) for path in bare] == []


def test_no_module_has_more_than_450_lines():
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def test_no_module_has_the_name_of_one_of_the_standard_library_in_a_source_root():
    for source in PACKAGES:
        for path in (ROOT / source).iterdir():
            if path.is_dir():
                assert path.name not in sys.stdlib_module_names


def test_imports_go_in_one_direction():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_file_knows_the_machine_it_was_written_on():
    # Put together, so that this file does not hold what it looks for.
    home, work, here = f"{'/'}home/", f"{'/'}work/", f"{'/'}root/"
    paths = re.compile(
        "|".join(rf"(?<![\w.~/-]){re.escape(part)}\w" for part in (home, work, here))
    )
    found = {
        str(path.relative_to(ROOT)): match.group()
        for path in SOURCES
        if path.suffix in TEXT
        for match in paths.finditer(path.read_text(errors="ignore"))
    }
    assert found == {}


def test_the_readme_is_short(readme):
    assert readme.count("\n") <= 150


def test_the_make_targets_of_the_readme_exist(readme):
    makefile = (ROOT / "Makefile").read_text()
    targets = targets_in(readme)
    assert {"demo", "test"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_make_help_names_every_target_with_words():
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    assert phony == set(re.findall(r"^([a-z-]+):.*## .", makefile, re.MULTILINE))
    assert {"help", "setup", "demo", "test", "check", "bench", "clean"} <= phony


def test_the_commands_of_the_documents_and_of_the_hints_exist(readme):
    from darkroom.main import app

    known = set(get_command(app).commands)
    assert {"init", "lint", "train", "serve", "generate"} <= commands_in(readme)
    texts = [readme, *(path.read_text() for path in (ROOT / "docs").rglob("*.md"))]
    assert {command for text in texts for command in commands_in(text)} <= known
    hints = " ".join(reason.hint for reason in Reason)
    assert set(re.findall(r"darkroom ([a-z]+)", hints)) <= known


def test_links_in_the_documents_lead_somewhere():
    for path in SOURCES:
        if path.suffix == ".md":
            for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
                if "://" not in link and not link.startswith("mailto:"):
                    assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"


def test_every_decision_is_listed():
    folder = ROOT / "docs" / "decisions"
    pages = {path.name for path in folder.glob("[0-9]*.md")}
    listed = re.findall(
        r"^\| \[(\d+)\]\((\1-[^)]*)\) \| (.*) \|$", (folder / "README.md").read_text(), re.M
    )
    assert {name for _, name, _ in listed} == pages
    for number, name, title in listed:
        assert (folder / name).read_text().startswith(f"# {number}: {title}\n")


def test_every_top_folder_is_on_the_map_of_the_readme(readme):
    folders = {path.relative_to(ROOT).parts[0] for path in SOURCES if path.parent != ROOT}
    shown = set(re.findall(r"^\| `([a-z]+)/` \|", readme, re.MULTILINE))
    assert {name for name in folders if not name.startswith(".")} == shown
