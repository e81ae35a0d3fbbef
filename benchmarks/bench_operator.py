"""What the operator costs: requests, processor time and memory, on a real apiserver (*api* tier).

The operator is a process with the rights of the chart; this program is its users and KubeRay, so
what is measured is ours alone. Writes are read from the apiserver's audit log, processor time and
memory from /proc. Checked in the same run: each job has one RayJob and succeeds.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from live import Installation, Operator, installed
from rich.console import Console
from rich.table import Table
from world import Admin, job_document, settle, word_of

from darkroom_cluster.build import ensure
from darkroom_cluster.cluster import Cluster, wait_for
from darkroom_cluster.lifecycle import down, up

JOBS: Final = int(os.environ.get("BENCH_OPERATOR_JOBS", "1000"))
CLUSTER: Final = "bench-operator"
RESULTS: Final = Path(__file__).parent / "results" / "operator.json"
TICKS: Final = os.sysconf("SC_CLK_TCK")
COMPARISONS: Final = 3
"""Full comparisons that are waited for before the writes are counted."""


def main() -> None:
    """Measures, prints a table and writes results/operator.json."""
    state = up(CLUSTER, "api", os.getpid())
    try:
        cluster = Cluster(state.kubeconfig, ensure(["kubectl"])["kubectl"], state)
        with tempfile.TemporaryDirectory(prefix="bench-operator-") as folder:
            figures = measured(cluster, Path(folder))
    finally:
        down(CLUSTER)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    show(figures)


def measured(cluster: Cluster, folder: Path) -> dict[str, float]:
    """A life of all jobs at once, then a restart and comparisons with all of them settled."""
    with installed(cluster, folder) as installation, cluster.namespace("bench") as namespace:
        operator = installation.start()
        operator.wait("leading")
        figures = lives(installation, operator, namespace)
        operator.stop()
        return figures | settled(installation, namespace)


def lives(installation: Installation, operator: Operator, namespace: str) -> dict[str, float]:
    """All jobs from their creation to their success."""
    admin = Admin(installation.cluster)
    since, before = installation.cluster.audit_offset(), cpu_seconds(operator)
    launch_seconds = launched(admin, namespace)
    succeeded(admin, namespace)
    settle()
    used = cpu_seconds(operator) - before
    writes = len(installation.writes(since, namespace))
    check_equal_work(admin, namespace)
    figures = {
        "jobs": JOBS,
        "writes_per_job": round(writes / JOBS, 2),
        "cpu_ms_per_job": round(1000 * used / JOBS, 2),
        f"rss_mib_{JOBS}": round(rss_mib(operator), 1),
        f"launch_{JOBS}_seconds": round(launch_seconds, 1),
    }
    print(f"lives of {JOBS} jobs: {figures}", flush=True)
    return figures


def launched(admin: Admin, namespace: str) -> float:
    """Creates the jobs; seconds from the first until all have a RayJob."""
    begun = time.perf_counter()
    for number in range(JOBS):
        admin.create_job(job_document(namespace, f"job-{number}"))
    wait_for(lambda: admin.count_ray_jobs(namespace) >= JOBS, "a RayJob of each job", 300, 0.1)
    return time.perf_counter() - begun


def succeeded(admin: Admin, namespace: str) -> None:
    """Lets each run begin and succeed, as KubeRay would tell."""
    names = list(admin.ray_jobs(namespace))
    for deployment, job in (("Running", "RUNNING"), ("Complete", "SUCCEEDED")):
        for name in names:
            admin.set_ray_job(namespace, name, deployment, job)

    def over() -> bool:
        return all(word_of(one) == "Completed" for one in admin.jobs(namespace))

    wait_for(over, "success of each job", 300, 1.0)


def settled(installation: Installation, namespace: str) -> dict[str, float]:
    """What a new process and its comparisons cost when there is nothing to do."""
    since = installation.cluster.audit_offset()
    begun = time.perf_counter()
    operator = installation.start(DARKROOM_RESYNC_SECONDS="2")
    operator.wait("leading")
    restart_seconds = time.perf_counter() - begun
    settle()
    on_restart = len(installation.writes(since, namespace))
    since = installation.cluster.audit_offset()

    def compared() -> bool:
        listed = [one.verb for one in installation.requests(since) if one.resource == "rayjobs"]
        return listed.count("list") >= COMPARISONS

    wait_for(compared, "full comparisons")
    settle()
    return {
        "writes_on_restart": on_restart,
        "writes_on_resync": len(installation.writes(since, namespace)),
        f"restart_{JOBS}_seconds": round(restart_seconds, 2),
        f"rss_mib_{JOBS}_settled": round(rss_mib(operator), 1),
    }


def check_equal_work(admin: Admin, namespace: str) -> None:
    """Ends the benchmark when a job has not exactly one RayJob."""
    attempts = [len(one["status"]["attempts"]) for one in admin.jobs(namespace)]
    if len(admin.ray_jobs(namespace)) != JOBS or statistics.mean(attempts) != 1:
        sys.exit("jobs and RayJobs do not match: the figures would be of something else")


def cpu_seconds(operator: Operator) -> float:
    """Processor time of the process so far, in user and kernel."""
    words = Path(f"/proc/{operator.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def rss_mib(operator: Operator) -> float:
    """Resident memory of the process now."""
    status = Path(f"/proc/{operator.process.pid}/status").read_text()
    (line,) = (one for one in status.splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def show(figures: dict[str, float]) -> None:
    """Prints the figures for a person."""
    table = Table(title=f"The operator, {JOBS} jobs at once")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:g}")
    Console().print(table)


if __name__ == "__main__":
    main()
