"""The Dockerfile, read without an engine: its targets, users, pins and sources."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("operator", "trainer", "serving")
MACHINE_LEARNING = re.compile(r"torch|ray|ray-.*|deepspeed|diffusers|transformers|numpy|nvidia-.*")


@dataclass
class Stage:
    """`FROM base AS name`, and the instructions that follow."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction):
        return [argument for name, argument in self.steps if name == instruction]


@dataclass
class Dockerfile:
    arguments: dict[str, str]
    stages: dict[str, Stage]

    def lineage(self, name):
        """The stage and those it is built from, outermost last."""
        found = []
        while name in self.stages:
            found.append(self.stages[name])
            name = self.stages[name].base
        return found

    def sources(self, name):
        """The lineage of a stage, and of every stage that it copies from."""
        found = {}
        for stage in self.lineage(name):
            found[stage.name] = stage
            for other in re.findall(r"(?:--from=|from=)(\w[\w-]*)", str(stage.steps)):
                found |= {item.name: item for item in self.sources(other)}
        return found.values()


def parse(text):
    """Stages and their instructions; comments dropped, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    arguments, stages, stage = {}, {}, None
    for line in filter(None, map(str.strip, joined.splitlines())):
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", argument).groups()
            stage = stages[name] = Stage(base, name)
        elif stage is None:
            assert instruction == "ARG"
            key, _, value = argument.partition("=")
            arguments[key] = value
        else:
            stage.steps.append((instruction, argument))
    return Dockerfile(arguments, stages)


@pytest.fixture(scope="module")
def dockerfile():
    return parse((ROOT / "Dockerfile").read_text())


def pins(path):
    """Name and version of each requirement that this machine would install; its hashes too."""
    found = {}
    for line in re.sub(r"\\\n\s*", "", path.read_text()).splitlines():
        text, *hashes = line.split("--hash=")
        requirement = Requirement(text.strip())
        assert hashes, f"{path.name}: {requirement.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", item.strip()) for item in hashes)
        if requirement.marker is None or requirement.marker.evaluate():
            found[_canonical(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def _canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_hadolint_finds_nothing(hadolint):
    done = subprocess.run(
        [hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_three_targets_are_there_and_last(dockerfile):
    assert list(dockerfile.stages)[-3:] == list(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_images_run_as_nobody_special(dockerfile, target):
    stage = dockerfile.stages[target]
    assert stage.all("USER") == ["65532:65532"]
    after = stage.steps[stage.steps.index(("USER", "65532:65532")) :]
    assert not {"RUN", "COPY", "ADD"} & {name for name, _ in after}
    environment = " ".join(step for item in dockerfile.lineage(target) for step in item.all("ENV"))
    assert "HOME=/tmp" in environment


@pytest.mark.parametrize("target", TARGETS)
def test_no_image_carries_a_compiler_or_pip(dockerfile, target):
    kept = str([stage.steps for stage in dockerfile.lineage(target)])
    assert not re.search(r"g\+\+|gcc|build-essential|ninja|pip install", kept)
    made = str([stage.steps for stage in dockerfile.sources(target)])
    assert "venv --without-pip /opt/darkroom" in made


def test_every_base_is_pinned_to_a_version(dockerfile):
    for stage in dockerfile.stages.values():
        base = re.sub(r"\$\{(\w+)\}", lambda match: dockerfile.arguments[match[1]], stage.base)
        if base in dockerfile.stages:
            continue
        assert re.fullmatch(r"python:3\.11[\w.-]*-?slim[\w.-]*(@sha256:[0-9a-f]{64})?", base), base
    assert "latest" not in (ROOT / "Dockerfile").read_text()


def test_everything_that_is_installed_has_a_hash(dockerfile):
    installs = [
        command.strip()
        for stage in dockerfile.stages.values()
        for step in stage.all("RUN")
        for command in step.split("&&")
        if re.search(r"\bpip\b.* install\b", command)
    ]
    assert len(installs) == 8
    for command in installs:
        assert "--no-deps" in command, command
        if "/wheels/darkroom-*.whl" not in command:
            assert "--require-hashes" in command, command


def test_nothing_comes_from_elsewhere(dockerfile):
    for stage in dockerfile.stages.values():
        assert not stage.all("ADD")
        for step in stage.all("RUN"):
            assert not re.search(r"\bcurl\b|https?://|\bwget [^&]*http|\bgit clone", step)


def test_what_is_copied_is_there_and_not_ignored(dockerfile):
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for stage in dockerfile.stages.values():
        for step in stage.all("COPY"):
            if origin := re.match(r"--from=(\S+) ", step):
                assert origin[1] in dockerfile.stages
                continue
            for source in step.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source.partition('/')[0]}" in ignored, source


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_installs_its_own_set_only(dockerfile, target):
    copied = {
        source
        for stage in dockerfile.sources(target)
        if stage.name != "wheel"
        for step in stage.all("COPY")
        for source in re.findall(r"requirements/\w+\.txt", step)
    }
    assert copied == {f"requirements/{target}.txt"}


def test_the_trainer_compiles_deepspeeds_extension_at_build(dockerfile):
    stage = dockerfile.stages["trainer-environment"]
    assert any("install --yes --no-install-recommends g++" in step for step in stage.all("RUN"))
    assert any("DS_BUILD_SHM_COMM=1" in step for step in stage.all("RUN"))
    needed = pins(ROOT / "requirements" / "trainer.txt")
    assert {"ninja", "setuptools", "deepspeed", "hjson", "torch"} <= needed.keys()
    # The extension is linked against OpenMP, which the slim image lacks.
    assert any("libgomp1" in step for step in dockerfile.stages["ray"].all("RUN"))


def test_the_operators_set_has_no_machine_learning_in_it():
    names = pins(ROOT / "requirements" / "operator.txt")
    assert "kopf" in names
    assert [name for name in names if MACHINE_LEARNING.fullmatch(name)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_targets_set_is_complete(target):
    """Every requirement of every package is in the set, as `pip check` would find after installing it."""
    pinned = pins(ROOT / "requirements" / f"{target}.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"][target]
    todo = [Requirement(text) for text in wanted]
    seen = set()
    while todo:
        requirement = todo.pop()
        name = _canonical(requirement.name)
        assert name in pinned, f"{target}: {requirement} is not in requirements/{target}.txt"
        assert requirement.specifier.contains(pinned[name], prereleases=True), requirement
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        extras = requirement.extras or {""}
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    assert {name for name, _ in seen} == pinned.keys()


def test_the_wheels_build_backend_is_complete(dockerfile):
    """What the Dockerfile picks out of dev.txt is hatchling and all that it needs."""
    step = next(item for item in dockerfile.stages["wheel"].all("RUN") if "hatchling" in item)
    picked = set(re.search(r"\^\(([^)]*)\)==", step)[1].split("|"))
    assert picked <= pins(ROOT / "requirements" / "dev.txt").keys()
    needed = {"hatchling"}
    for text in importlib.metadata.requires("hatchling"):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed.add(_canonical(requirement.name))
    assert picked == needed


def test_only_what_is_copied_makes_the_wheel(dockerfile, tmp_path):
    """hatchling builds the wheel from a folder with nothing else in it."""
    for step in dockerfile.stages["wheel"].all("COPY"):
        for source in step.split()[:-1]:
            target = tmp_path / source
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(ROOT / source)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", tmp_path / "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "out").glob("darkroom-*-py3-none-any.whl")
    held = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {Path(package).name for package in packages} <= held


def test_the_chart_runs_what_the_image_is(dockerfile, chart):
    operator = dockerfile.stages["operator"]
    container = chart.find("Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == json.loads(operator.all("ENTRYPOINT")[0])
    values = yaml.safe_load((ROOT / "charts" / "darkroom" / "values.yaml").read_text())
    ports = {values["operator"]["port"], values["metrics"]["port"]}
    assert {int(port) for port in operator.all("EXPOSE")[0].split()} == ports
