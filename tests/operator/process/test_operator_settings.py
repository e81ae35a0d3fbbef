"""Settings from the environment, the names of the metrics, and what a process may import."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import generate_latest

import darkroom_operator
from darkroom_operator.metrics import Metrics
from darkroom_operator.settings import LauncherKind, Settings, SettingsError, read_settings

DATA = Path(__file__).parent / "data"


def test_an_empty_environment_gives_the_defaults():
    assert read_settings({"PATH": "/bin", "DARKROOM_PORT": ""}) == Settings()


def test_every_field_can_be_set():
    examples = {str: "x", int: "7", LauncherKind: "kuberay", tuple[str, ...]: "a, b"}
    environment = {
        f"DARKROOM_{field.name.upper()}": examples[field.type] for field in fields(Settings)
    }
    settings = read_settings(environment)
    assert (settings.workers, settings.trainer_image) == (7, "x")
    assert settings.namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"DARKROOM_PORT": "eighty"}, "DARKROOM_PORT"),
        ({"DARKROOM_LAUNCHER": "slurm"}, "DARKROOM_LAUNCHER"),
        ({"DARKROOM_LAUNCHER": "ray-jobs"}, "DARKROOM_RAY_ADDRESS"),
        ({"DARKROOM_PROGRESS_SERVICE": "progress"}, "DARKROOM_POD_IP"),
    ],
)
def test_a_wrong_variable_is_named(environment, name):
    with pytest.raises(SettingsError, match=name):
        read_settings(environment)


def test_a_wrong_setting_ends_the_process_with_a_word():
    command = [sys.executable, "-m", "darkroom_operator"]
    environment = {"DARKROOM_PORT": "x", "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "DARKROOM_PORT" in result.stderr


def test_the_metrics_are_those_that_are_listed():
    metrics = Metrics()
    metrics.count_jobs(lambda: {("default", "Training"): 1})
    lines = generate_latest(metrics.registry).decode().splitlines()
    names = [line.removeprefix("# TYPE ") for line in lines if line.startswith("# TYPE ")]
    names = sorted(name for name in names if not name.split()[0].endswith("_created"))
    assert names == (DATA / "metrics.txt").read_text().splitlines()


def test_every_metric_has_help():
    text = generate_latest(Metrics().registry).decode()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert len(line.split(maxsplit=3)[3]) > 5


def test_the_operator_imports_no_machine_learning():
    code = "import sys, darkroom_operator.__main__; print(*{'torch', 'ray', 'transformers'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_the_modules_are_small():
    root = Path(darkroom_operator.__file__).parent
    lengths = {path: path.read_text().count("\n") for path in root.rglob("*.py")}
    assert len(lengths) > 40
    assert {name: length for name, length in lengths.items() if length > 300} == {}
