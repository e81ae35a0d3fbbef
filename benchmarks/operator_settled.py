"""What a new process of the operator costs when all jobs are over: its start, comparisons, memory."""

import json
import os
import time
from typing import Final

from benchmarks.operator_lives import JOBS, Measured, by_many

from darkroom_testing.apiserver.apiserver_world import MERGE, Admin, job_document, jobs_path, settle
from darkroom_testing.apiserver.operator_process import Installation
from darkroom_testing.cluster.cluster import wait_for

SETTLED: Final = int(os.environ.get("BENCH_OPERATOR_SETTLED", "10000"))
COMPARISONS: Final = 3
"""Full comparisons that are waited for before memory and writes are looked at."""


def settled(installation: Installation, namespace: str) -> dict[str, float]:
    """A restart with the jobs that succeeded, then one with many more of the same kind."""
    few = _restarted(installation, namespace)
    _fill(installation, namespace)
    many = _restarted(installation, namespace)
    return {
        **{name: few[name] + many[name] for name in ("writes_on_restart", "writes_on_resync")},
        f"rss_mib_{JOBS}": few["rss_mib"],
        f"rss_mib_{SETTLED}": many["rss_mib"],
        f"restart_{JOBS}_seconds": few["restart_seconds"],
        f"restart_{SETTLED}_seconds": many["restart_seconds"],
    }


def _restarted(installation: Installation, namespace: str) -> dict[str, float]:
    """A new process until it leads, and after some comparisons."""
    cluster, since = installation.cluster, installation.cluster.audit_offset()
    begun = time.perf_counter()
    process = installation.start(DARKROOM_RESYNC_SECONDS="2")
    process.wait("leading")
    restart_seconds = time.perf_counter() - begun
    operator = Measured(cluster, process.process.pid, installation.user)
    settle(5)
    on_restart = operator.writes(since, namespace)
    since = cluster.audit_offset()

    def compared() -> bool:
        asked = [one.verb for one in installation.requests(since) if one.resource == "pods"]
        return asked.count("list") >= COMPARISONS  # pods are the last of a comparison

    wait_for(compared, "full comparisons", pause=1.0)
    settle()
    figures = {
        "writes_on_restart": on_restart,
        "writes_on_resync": operator.writes(since, namespace),
        "restart_seconds": round(restart_seconds, 2),
        "rss_mib": operator.rss_mib(),
    }
    process.stop()
    return figures


def _fill(installation: Installation, namespace: str) -> None:
    """Adds jobs that are over, with the status of one that really succeeded."""
    admin = Admin(installation.cluster)
    status = json.dumps(admin.call("GET", f"{jobs_path(namespace)}/job-0")["status"])

    def add(user: Admin, number: int) -> None:
        name = f"job-{number}"
        user.create_job(job_document(namespace, name))
        own = json.loads(status.replace('"job-0-', f'"{name}-'))
        path = f"{jobs_path(namespace)}/{name}/status"
        user.call("PATCH", path, {"status": own}, kind=MERGE)

    by_many(installation.cluster, range(JOBS, SETTLED), add)
