"""What the operator costs: requests, processor time, memory and time to launch, on a real apiserver.

On the *api* tier this program is the operator's users and KubeRay, so what is measured is the
operator's alone; beside it the same life of as many jobs runs in kopf's usual style. On the *scale*
tier KubeRay itself makes the clusters of 1,000 jobs on simulated nodes, on the same cores. Checked in
the same run: each job has exactly one RayJob, and on the *api* tier succeeds. Times are told in units
of what the machine can do at that moment, too; those have thresholds.

    python -m benchmarks.bench_operator [--runs N] [--check]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.operator_floor import (
    FLOOR,
    FLOOR_OF,
    Figures,
    applies,
    import_cpu_seconds,
    in_floors,
)
from benchmarks.operator_lives import JOBS, Measured, launched, lives
from benchmarks.operator_settled import settled
from benchmarks.shown import show

from darkroom_testing.apiserver.operator_process import (
    ROOT,
    Installation,
    environment,
    install_crds,
    installed,
    rendered,
)
from darkroom_testing.cluster.api_tier import free_ports
from darkroom_testing.cluster.build import ensure
from darkroom_testing.cluster.cluster import Cluster, wait_for
from darkroom_testing.cluster.lifecycle import down, up
from darkroom_testing.cluster.processes import answers

NAME: Final = "bench-operator"
RESULTS: Final = Path(__file__).parent / "results" / "operator.json"
THEIRS: Final = "kopf_style_"
"""Begins the names of figures that are not of our operator."""

TOLERANCE: Final = 1.2
"""A threshold is the worst of some runs, and a fifth: CPUs are not equally busy each time."""

RUNS_FOR_THRESHOLDS: Final = 5


def main() -> None:
    """Measures, prints a table, and writes results/operator.json or compares with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1, help="five or more set thresholds, too")
    parser.add_argument("--check", action="store_true", help="compare with the thresholds instead")
    arguments = parser.parse_args()
    known = json.loads(RESULTS.read_text()).get("thresholds", {}) if RESULTS.exists() else {}
    if arguments.check and not known:
        sys.exit(f"there are no thresholds yet: --runs {RUNS_FOR_THRESHOLDS} sets them")
    runs = [measured(compared=number == 0) for number in range(arguments.runs)]
    figures = medians(runs)
    show(f"The operator, {JOBS} jobs at once", figures)
    if arguments.check:
        sys.exit("\n".join(exceeded(figures, known)) or None)
    thresholds = thresholds_of(runs) if len(runs) >= RUNS_FOR_THRESHOLDS else known
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures | {"thresholds": thresholds}, indent=1) + "\n")


def medians(runs: list[Figures]) -> Figures:
    """The medians of our figures; the comparison is made in the first run alone."""
    ours = {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[-1]}
    figures = runs[0] | ours
    for name in ("writes_per_job", "cpu_ms_per_job"):
        figures[f"{THEIRS}{name}_ratio"] = round(runs[0][THEIRS + name] / runs[0][name], 2)
    return figures


def thresholds_of(runs: list[Figures]) -> Figures:
    """How bad each figure of ours may be, times in units of floors; lower is better for all of them."""
    others = ("jobs", *FLOOR_OF)
    ours = (name for name in runs[-1] if not name.startswith((THEIRS, FLOOR)))
    limits = {name: TOLERANCE * max(run[name] for run in runs) for name in ours}
    return {name: round(limit, 2) for name, limit in limits.items() if name not in others}


def exceeded(figures: Figures, thresholds: Figures) -> list[str]:
    """A line for each figure that is worse than its threshold."""
    return [
        f"{name} is {figures[name]:g}, more than {limit:g}"
        for name, limit in thresholds.items()
        if figures[name] > limit
    ]


def measured(*, compared: bool) -> Figures:
    """One run, each part on a new cluster."""
    figures: Figures = {
        "jobs": JOBS,
        "import_cpu_seconds": import_cpu_seconds("darkroom_operator.__main__"),
        "floor_import_cpu_seconds": import_cpu_seconds("kopf"),
    }
    comparison = [("api", kopf_style)] if compared else []
    for tier, part in (("api", ours), *comparison, ("scale", launch_beside_kuberay)):
        with cluster_of(tier) as cluster, tempfile.TemporaryDirectory(prefix=NAME) as folder:
            figures |= part(cluster, Path(folder))
        print(figures, flush=True)
    return figures | in_floors(figures)


@contextmanager
def cluster_of(tier: str) -> Iterator[Cluster]:
    """A cluster of our own."""
    state = up(NAME, tier, os.getpid())
    try:
        yield Cluster(state.kubeconfig, ensure(["kubectl"])["kubectl"], state)
    finally:
        down(NAME)


def ours(cluster: Cluster, folder: Path) -> Figures:
    """Lives of jobs, then restarts with all of them settled."""
    with installed(cluster, folder) as installation, cluster.namespace("bench") as namespace:
        operator = started(installation)
        figures = lives(operator, namespace)
        installation.stop()
        return {
            **applies(cluster),
            "writes_per_job": figures["writes_per_job"],
            "cpu_ms_per_job": figures["cpu_ms_per_job"],
            f"launch_{JOBS}_seconds_api": figures["launch_seconds"],
            f"rss_mib_{JOBS}_lived": figures["rss_mib"],
            **settled(installation, namespace),
        }


def started(installation: Installation) -> Measured:
    """Our operator, when it leads."""
    operator = installation.start()
    operator.wait("leading")
    return Measured(installation.cluster, operator.process.pid, installation.user)


def kopf_style(cluster: Cluster, folder: Path) -> Figures:
    """The same lives under an operator in kopf's usual style."""
    documents = rendered("bench")
    install_crds(cluster, documents)
    with cluster.namespace("bench") as namespace:
        cluster.kubectl("create", "serviceaccount", "kopf-style", f"--namespace={namespace}")
        account = f"--serviceaccount={namespace}:kopf-style"
        cluster.kubectl(
            "create", "clusterrolebinding", "kopf-style", account, "--clusterrole=cluster-admin"
        )
        kubeconfig = cluster.account_kubeconfig(namespace, "kopf-style", folder / "kubeconfig")
        variables = {**environment(documents), "KUBECONFIG": str(kubeconfig)}
        with kopf_process(namespace, variables, folder / "log") as pid:
            user = f"system:serviceaccount:{namespace}:kopf-style"
            figures = lives(Measured(cluster, pid, user), namespace)
    return {
        f"{THEIRS}writes_per_job": figures["writes_per_job"],
        f"{THEIRS}cpu_ms_per_job": figures["cpu_ms_per_job"],
        f"{THEIRS}launch_{JOBS}_seconds_api": figures["launch_seconds"],
        f"{THEIRS}rss_mib_{JOBS}_lived": figures["rss_mib"],
    }


@contextmanager
def kopf_process(namespace: str, variables: dict[str, str], log: Path) -> Iterator[int]:
    """`kopf run`, when it is alive."""
    (port,) = free_ports(1)
    path = os.pathsep.join(str(ROOT / part) for part in ("crds", "operator"))
    command = [sys.executable, "-m", "kopf", "run", f"--namespace={namespace}"]
    command += [f"--liveness=http://127.0.0.1:{port}/healthz"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, str(Path(__file__).with_name("kopf_style_operator.py"))],
            env={**os.environ, "PYTHONPATH": path, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: answers(port, "/healthz"), "a live kopf operator")
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def launch_beside_kuberay(cluster: Cluster, folder: Path) -> Figures:
    """How long until all jobs have a RayJob, while KubeRay makes their clusters."""
    with installed(cluster, folder) as installation, cluster.namespace("bench") as namespace:
        started(installation)
        seconds = launched(cluster, namespace)
    return {f"launch_{JOBS}_seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
