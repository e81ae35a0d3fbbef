"""The clusters as fixtures, one of each tier for a test run: `--cluster=local|existing|none`.

*local* starts ours, in processes that end with pytest's even when that is killed. *existing* takes
the cluster of $KUBECONFIG (kind, k3d, a real one). A tier that this machine cannot run is skipped
with the reason; with CI=true it fails.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from darkroom_cluster.build import COMMANDS, ensure, missing
from darkroom_cluster.cluster import Cluster
from darkroom_cluster.errors import ClusterError, ClusterUnavailableError
from darkroom_cluster.lifecycle import check
from darkroom_cluster.processes import python_path
from darkroom_cluster.state import State

FIXTURES = {f"{tier}_cluster": tier for tier in COMMANDS}
NEEDS_CLUSTER = {*FIXTURES, "tier_command"}
"""Fixtures that start one: the last runs the harness itself, in its own tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        choices=("local", "existing", "none"),
        default="local",
        help="the Kubernetes of the tests that need one: ours, that of $KUBECONFIG, or none",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: needs a Kubernetes; set by what a test uses")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need a cluster, before `-m` picks some."""
    for item in items:
        if not NEEDS_CLUSTER.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what the collected tests need, before the first test's time limit begins."""
    config = session.config
    if config.getoption("--cluster") != "local" or config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for tier in (FIXTURES[name] for name in FIXTURES if name in used):
        # The fixture that needs the tier meets the same error, and says it.
        with suppress(ClusterError):
            check(tier)
            if names := missing(COMMANDS[tier]):
                _say(config, f"building the test cluster ({', '.join(names)}): minutes, once")
                ensure(COMMANDS[tier])


def _say(config: pytest.Config, text: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(text)


def unavailable(reason: str) -> NoReturn:
    """Skips the test; in CI, where everything is to be installed, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m darkroom_cluster` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "darkroom_cluster", *arguments],
        env={**os.environ, **python_path()},
        capture_output=True,
        text=True,
        check=False,
    )


def _existing(tier: str) -> Cluster:
    kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if tier == "scale":
        unavailable("the scale tier simulates its nodes: --cluster=local has them")
    if not kubeconfig.exists():
        unavailable(f"--cluster=existing: there is no kubeconfig {kubeconfig}")
    kubectl = shutil.which("kubectl") or ensure(["kubectl"])["kubectl"]
    cluster = Cluster(kubeconfig, kubectl)
    if tier == "node" and not cluster.get("crd", "rayjobs.ray.io"):
        unavailable("the existing cluster lacks KubeRay: helm install kuberay-operator")
    return cluster


def _provide(config: pytest.Config, tier: str) -> Iterator[Cluster]:
    option = config.getoption("--cluster")
    if option == "none":
        pytest.skip("--cluster=none")
    if option == "existing":
        yield _existing(tier)
        return
    try:
        check(tier)
    except ClusterUnavailableError as error:
        unavailable(str(error))
    name = f"pytest-{os.getpid()}-{tier}"
    done = command("up", "--tier", tier, "--name", name, "--owner", str(os.getpid()))
    if done.returncode:
        pytest.fail(f"the {tier} cluster did not come up:\n{done.stderr}", pytrace=False)
    state = State(name)
    yield Cluster(state.kubeconfig, ensure(["kubectl"])["kubectl"], state)
    command("down", "--name", name)


@pytest.fixture(scope="session")
def api_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A control plane: etcd, apiserver, controller-manager."""
    yield from _provide(request.config, "api")


@pytest.fixture(scope="session")
def scale_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Simulated nodes and Ray dashboards under a real scheduler and a real KubeRay."""
    yield from _provide(request.config, "scale")


@pytest.fixture(scope="session")
def node_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A real node that runs pods, with KubeRay."""
    yield from _provide(request.config, "node")
