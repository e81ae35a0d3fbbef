"""`darkroom doctor`: what is missing, with the way to get it."""

import json
import sys

import pytest

from darkroom import checks


@pytest.fixture
def builtins(tmp_path, monkeypatch):
    """A folder of built-in files that is whole, but for their content."""
    for name in ("base", "classifier", "mascot"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DARKROOM_BUILTIN_DIR", str(tmp_path))
    return tmp_path


def test_a_complete_machine_passes(builtins, darkroom):
    result = darkroom("doctor", "--json")
    found = {check["name"]: check for check in json.loads(result.stdout)}
    assert {"python", "g++", "ninja", "torch", "ray", "disk", "GPU"} <= found.keys()
    lacking = {name for name, check in found.items() if check["needed"] and not check["ok"]}
    assert result.exit_code == bool(lacking)
    assert lacking <= {"disk"}


def test_what_is_missing_comes_with_a_fix(tmp_path, monkeypatch, darkroom):
    monkeypatch.setenv("DARKROOM_BUILTIN_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    result = darkroom("doctor")
    assert result.exit_code == 1
    assert "MISSING  not found; install it; Debian: apt-get install g++" in result.stdout
    assert "git restore miniature" in result.stdout
    assert "DARKROOM_BUILTIN_DIR" in result.stdout


def test_altered_builtin_files_are_found(builtins, publish_model, tmp_path):
    entry = publish_model(tmp_path / "registry", "base")
    (builtins / "base").rmdir()
    entry.folder.rename(builtins / "base")
    assert checks.check_builtin("miniature").ok
    (builtins / "base" / "README.md").write_text("altered")
    check = checks.check_builtin("miniature")
    assert not check.ok
    assert "README.md does not match its digest" in check.detail


def test_a_package_that_is_not_installed_is_missing():
    check = checks.check_package("no-such-package")
    assert (check.ok, check.fix) == (False, checks.REINSTALL)
    assert checks.check_package("rich").ok


def test_the_compiled_extension_is_found_where_deepspeed_installs_it(tmp_path, monkeypatch):
    assert checks.check_extension().ok
    (tmp_path / "deepspeed").mkdir()
    (tmp_path / "deepspeed" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "deepspeed", raising=False)
    assert not checks.check_extension().ok


def test_small_shared_memory_is_no_obstacle(tmp_path):
    check = checks.check_shared_memory(tmp_path / "absent")
    assert (check.ok, check.needed) == (False, False)
    assert "--shm-size" in check.fix
