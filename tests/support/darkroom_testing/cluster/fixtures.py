"""The clusters as fixtures, one of each tier for a test run: `--cluster=local|existing|none`.

*local* starts ours, in processes that end with pytest's even when that is killed. *existing* takes
the cluster of $KUBECONFIG (kind, k3d, a real one). A tier that this machine cannot run is skipped
with the reason; with CI=true it fails.

The tests of a tier run together and after all that need no cluster, so that one lives at a time.
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

from darkroom_testing.cluster.build import COMMANDS, ensure, missing
from darkroom_testing.cluster.cluster import Cluster
from darkroom_testing.cluster.disturbances import NodeCluster
from darkroom_testing.cluster.errors import ClusterError, ClusterUnavailableError
from darkroom_testing.cluster.lifecycle import check
from darkroom_testing.cluster.processes import python_path
from darkroom_testing.cluster.state import State

FIXTURES = {f"{tier}_cluster": tier for tier in COMMANDS}
CLASSES = {"api": Cluster, "scale": Cluster, "node": NodeCluster}
"""What a test holds of each tier."""
NEEDS_CLUSTER = ("tier_command", *FIXTURES)
"""Fixtures that start one, in the order of the run: the first runs the harness, in its own tests."""
RUN_BY = {
    **{fixture: COMMANDS[tier] for fixture, tier in FIXTURES.items()},
    "installation": ("helm", "kuberay-operator"),
    "helm": ("helm",),
}
"""The commands that a fixture runs."""
RUNNING = pytest.StashKey[str]()
"""The name of the cluster that was started last."""


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
    """Marks the tests that need a cluster, before `-m` picks some; puts those of a tier together."""
    for item in items:
        if _group(item):
            item.add_marker("cluster")
    items.sort(key=_group)


def _fixtures(item: pytest.Item) -> tuple[str, ...]:
    return tuple(getattr(item, "fixturenames", ()))


def _group(item: pytest.Item) -> int:
    """The tests without a cluster, those that start their own, and each tier's."""
    used = _fixtures(item)
    return max((number for number, name in enumerate(NEEDS_CLUSTER, 1) if name in used), default=0)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what the collected tests run, before the first test's time limit begins."""
    config = session.config
    if config.option.collectonly:
        return
    local = config.getoption("--cluster") == "local"
    items = [item for item in session.items if local or not _group(item)]
    used = {name for item in items for name in _fixtures(item)}
    for fixture in (name for name in RUN_BY if name in used):
        # The fixture meets the same error, and says it.
        with suppress(ClusterError):
            if fixture in FIXTURES:
                check(FIXTURES[fixture])
            if names := missing(RUN_BY[fixture]):
                _say(config, f"building {', '.join(names)}: minutes, once")
                ensure(RUN_BY[fixture])


def _say(config: pytest.Config, text: str) -> None:
    """Once: of several processes that test beside each other, the first says it."""
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(text, file=sys.stderr, flush=True)


def unavailable(reason: str) -> NoReturn:
    """Skips the test; in CI, where everything is to be installed, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m darkroom_testing.cluster` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "darkroom_testing.cluster", *arguments],
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
    cluster = CLASSES[tier](kubeconfig, kubectl)
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
    if before := config.stash.get(RUNNING, None):
        command("down", "--name", before)
    config.stash[RUNNING] = name
    done = command("up", "--tier", tier, "--name", name, "--owner", str(os.getpid()))
    if done.returncode:
        pytest.fail(f"the {tier} cluster did not come up:\n{done.stderr}", pytrace=False)
    state = State(name)
    yield CLASSES[tier](state.kubeconfig, ensure(["kubectl"])["kubectl"], state)
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
