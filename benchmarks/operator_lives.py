"""All jobs from their creation to their success under one operator, and what that costs it.

The operator is a process; the caller is its users, and KubeRay too. Writes are read from the
apiserver's audit log, processor time and memory from /proc.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from darkroom_testing.apiserver.apiserver_world import LABEL, Admin, job_document, settle, word_of
from darkroom_testing.apiserver.operator_process import NOT_OF_JOBS
from darkroom_testing.cluster.cluster import Cluster, wait_for

JOBS: Final = int(os.environ.get("BENCH_OPERATOR_JOBS", "1000"))
USERS: Final = 8
"""Connections that create jobs at the same time."""

WAIT_SECONDS: Final = 600
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """The operator that is measured."""

    cluster: Cluster
    pid: int
    user: str
    """As the audit log names it."""

    def cpu_seconds(self) -> float:
        """Processor time of the process so far, in user and kernel."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS

    def rss_mib(self) -> float:
        """Resident memory of the process now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (one for one in status.splitlines() if one.startswith("VmRSS:"))
        return round(int(line.split()[1]) / 1024, 1)

    def writes(self, since: int, namespace: str) -> int:
        """Number of writes about jobs since an offset of the audit log."""
        return sum(
            one.writes and one.resource not in NOT_OF_JOBS and one.namespace == namespace
            for one in self.cluster.requests(since, self.user)
        )


def lives(operator: Measured, namespace: str) -> dict[str, float]:
    """All jobs at once, from their creation to their success."""
    admin = Admin(operator.cluster)
    since, before = operator.cluster.audit_offset(), operator.cpu_seconds()
    launch_seconds = launched(operator.cluster, namespace)
    _succeed(admin, namespace)
    settle()
    used = operator.cpu_seconds() - before
    writes = operator.writes(since, namespace)
    _check_equal_work(admin, namespace)
    return {
        "writes_per_job": round(writes / JOBS, 2),
        "cpu_ms_per_job": round(1000 * used / JOBS, 2),
        "launch_seconds": round(launch_seconds, 1),
        "rss_mib": operator.rss_mib(),
    }


def launched(cluster: Cluster, namespace: str) -> float:
    """Creates all jobs at once; seconds from the first until all have a RayJob."""
    begun = time.perf_counter()

    def create(user: Admin, number: int) -> None:
        user.create_job(job_document(namespace, f"job-{number}"))

    by_many(cluster, range(JOBS), create)
    admin = Admin(cluster)

    def all_there() -> bool:
        return admin.count_ray_jobs(namespace) >= JOBS

    wait_for(all_there, "a RayJob of each job", WAIT_SECONDS, 0.1)
    return time.perf_counter() - begun


def by_many(cluster: Cluster, numbers: range, do: Callable[[Admin, int], None]) -> None:
    """Does something for each number, by several users at once."""

    def share(first: int) -> None:
        user = Admin(cluster)
        for number in numbers[first::USERS]:
            do(user, number)

    with ThreadPoolExecutor(USERS) as pool:
        list(pool.map(share, range(USERS)))


def _succeed(admin: Admin, namespace: str) -> None:
    """Lets each run begin and succeed, as KubeRay would tell."""
    names = list(admin.ray_jobs(namespace))
    for deployment, job in (("Running", "RUNNING"), ("Complete", "SUCCEEDED")):
        for name in names:
            admin.set_ray_job(namespace, name, deployment, job)

    def over() -> bool:
        return all(word_of(one) == "Completed" for one in admin.jobs(namespace))

    wait_for(over, "success of each job", WAIT_SECONDS, 1.0)


def _check_equal_work(admin: Admin, namespace: str) -> None:
    """Ends the benchmark when a job has not exactly one RayJob."""
    owners = Counter(one["metadata"]["labels"][LABEL] for one in admin.ray_jobs(namespace).values())
    if owners != Counter(f"job-{number}" for number in range(JOBS)):
        sys.exit("jobs and RayJobs do not match: the figures would be of something else")
