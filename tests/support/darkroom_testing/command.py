"""A pytest plugin: runs the command, in this process or in one of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

Run = Callable[..., Result]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def darkroom() -> Run:
    """Runs `darkroom ARGUMENTS` in this process: `.exit_code`, `.stdout`, `.stderr`."""
    from darkroom.main import app

    def run(*arguments: object, **options: Any) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)

    return run


@pytest.fixture(scope="session")
def darkroom_process() -> RunProcess:
    """Runs `python -m darkroom ARGUMENTS` as a process of its own."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "darkroom", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    return run


@pytest.fixture
def valid_job(tmp_path: Path, darkroom: Run) -> Path:
    """A job file over the miniature with four photos that are in the way of nothing."""
    file = tmp_path / "rex.yaml"
    arguments = ("--kind", "Animal", "--class-noun", "dog", "--photos", tmp_path / "photos")
    assert darkroom("init", file, *arguments).exit_code == 0
    return file
