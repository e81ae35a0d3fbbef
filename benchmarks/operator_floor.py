"""The speed of the machine, in the terms of the operator: what nothing that does its work can do without.

Two runs on two machines, or on one that is shared, differ by twice and more. Times in units of these
floors, which are measured in the same run, do not.
"""

import copy
import resource
import subprocess
import sys
import time
from typing import Final

import yaml
from benchmarks.operator_lives import JOBS, by_many
from benchmarks.operator_settled import SETTLED

from darkroom_testing.apiserver.apiserver_world import Admin, Document, ray_jobs_path
from darkroom_testing.apiserver.operator_process import ROOT
from darkroom_testing.cluster.cluster import Cluster

GOLDEN: Final = ROOT / "tests" / "operator" / "data" / "output" / "miniature.yaml"
APPLY: Final = "application/apply-patch+yaml"
FLOOR: Final = "floor_"
"""Begins the names of the floors."""

APPLIES: Final = f"{FLOOR}{JOBS}_applies_seconds"
FLOOR_OF: Final = {
    "import_cpu_seconds": f"{FLOOR}import_cpu_seconds",
    "cpu_ms_per_job": f"{FLOOR}cpu_ms_per_apply",
    f"launch_{JOBS}_seconds": APPLIES,
    f"launch_{JOBS}_seconds_api": APPLIES,
    f"restart_{JOBS}_seconds": APPLIES,
    f"restart_{SETTLED}_seconds": APPLIES,
}
"""The floor in whose unit each time is told, too."""

Figures = dict[str, float]


def import_cpu_seconds(module: str) -> float:
    """Processor time of a process that only imports a module."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return round(used() - before, 2)


def applies(cluster: Cluster) -> Figures:
    """Bare clients apply a RayJob for each job; there is no operator."""
    documents = yaml.safe_load_all(GOLDEN.read_text())
    ray_job: Document = next(one for one in documents if one["kind"] == "RayJob")
    with cluster.namespace("floor") as namespace:

        def apply(user: Admin, number: int) -> None:
            document = copy.deepcopy(ray_job)
            document["metadata"] |= {"name": f"job-{number}", "namespace": namespace}
            del document["metadata"]["ownerReferences"]
            path = f"{ray_jobs_path(namespace)}/job-{number}?fieldManager=floor&force=true"
            user.call("PATCH", path, document, kind=APPLY)

        wall, processor = time.perf_counter(), time.process_time()
        by_many(cluster, range(JOBS), apply)
        return {
            APPLIES: round(time.perf_counter() - wall, 2),
            f"{FLOOR}cpu_ms_per_apply": round(1000 * (time.process_time() - processor) / JOBS, 3),
        }


def in_floors(figures: Figures) -> Figures:
    """The times of one run in units of its floors, named `…_ratio`."""
    return {
        f"{name}_ratio": round(figures[name] / figures[floor], 2)
        for name, floor in FLOOR_OF.items()
        if name in figures
    }
