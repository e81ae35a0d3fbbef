"""The cluster's commands: built once for each set of pins, and found again."""

import shutil

import pytest

from darkroom_testing.cluster.build import (
    COMMANDS,
    HACK,
    MODULES,
    cache_root,
    digest,
    ensure,
    go_version,
    linker_flags,
    missing,
)
from darkroom_testing.cluster.errors import ClusterError, ClusterUnavailableError
from darkroom_testing.cluster.fixtures import unavailable


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DARKROOM_CLUSTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hack(tmp_path):
    """A copy of hack/ with the one command that needs no other module."""
    shutil.copytree(HACK / "pause", tmp_path / "hack" / "pause")
    return tmp_path / "hack"


def test_every_command_of_a_tier_has_a_module():
    built = {name for module in MODULES for name in module.commands}
    assert built == {name for names in COMMANDS.values() for name in names}
    assert all((HACK / module.name / "go.mod").exists() for module in MODULES)


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go"])
def test_the_digest_follows_what_a_build_depends_on(hack, name):
    module = hack / "pause"
    before = digest(module, "go1.26.0")
    (module / "README.md").write_text("not this")
    assert digest(module, "go1.26.0") == before
    path = module / name
    path.write_text((path.read_text() if path.exists() else "") + "\n")
    assert digest(module, "go1.26.0") != before


def test_the_digest_follows_the_version_of_go(hack):
    assert digest(hack / "pause", "go1.26.0") != digest(hack / "pause", "go1.26.1")


def test_kubernetes_commands_say_the_version_that_is_pinned():
    flags = linker_flags(HACK / "k8s")
    pinned = (HACK / "k8s" / "go.mod").read_text()
    version = flags.partition("version.gitVersion=")[2].partition(" ")[0]
    assert f"k8s.io/kubernetes {version}" in pinned
    assert f"version.gitMinor={version.split('.')[1]}" in flags
    assert linker_flags(HACK / "etcd") == "-s -w"


def test_without_go_the_reason_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterUnavailableError, match="Go is not installed"):
        ensure(["etcd"])


def _need_go():
    try:
        go_version()
    except ClusterUnavailableError as error:
        unavailable(str(error))


def test_a_command_is_built_once_and_again_when_a_pin_changes(own_cache, hack):
    _need_go()
    assert cache_root() == own_cache
    first = ensure(["pause"], hack).paths["pause"]
    built = first.stat().st_mtime_ns
    assert first.is_relative_to(own_cache)
    assert ensure(["pause"], hack).paths["pause"].stat().st_mtime_ns == built

    (hack / "pause" / "go.sum").write_text("\n")
    second = ensure(["pause"], hack).paths["pause"]
    assert second.parent != first.parent
    assert first.exists()
    assert second.exists()


def test_a_build_that_fails_says_why_and_leaves_no_command(own_cache, hack):
    _need_go()
    (hack / "pause" / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(ClusterError, match="undefined"):
        ensure(["pause"], hack)
    assert list(own_cache.rglob("pause")) == []


def test_what_is_missing_is_told_before_it_is_built(own_cache):
    _need_go()
    assert missing(["etcd", "pause"]) == ["etcd", "pause"]
