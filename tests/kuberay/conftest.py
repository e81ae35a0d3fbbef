"""What the tests on a real node share: the chart, installed once, and jobs with a volume of their own."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from darkroom_api.names import VOLUMES_ENV
from darkroom_testing.cluster.build import ensure
from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.kuberay.cluster_job import ClusterJob
from darkroom_testing.kuberay.volume import Volume

CHECKOUT = Path(__file__).parents[2]
SUBJECT = Path(__file__).parent / "data" / "subject.yaml"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SMALL = (
    "trainer.head.cpu=1",
    "trainer.head.memory=3Gi",
    "trainer.worker.cpu=800m",
    "trainer.worker.memory=4Gi",
    "registry.size=5Gi",
    "operator.tuning.progressSeconds=1",
    "retries.backoffSeconds=2",
)
"""Two cores hold an attempt, whose start is the head's work above all; progress is told often enough to aim
at a step, and no attempt is waited for long."""


@pytest.fixture(scope="session")
def served(node_cluster):
    """The chart, installed by helm as README says: two namespaces with a registry of the chart's."""
    if node_cluster.state is None:
        pytest.skip("an existing cluster lacks the images of this checkout: --cluster=local")
    helm = ensure(["helm"])["helm"]
    with ExitStack() as stack:
        system, quiet, rough = (
            stack.enter_context(node_cluster.namespace(name, **RESTRICTED))
            for name in ("darkroom-system", "quiet", "rough")
        )
        values = [*SMALL, f"registry.namespaces={{{quiet},{rough}}}"]
        command = [helm, "install", "darkroom", str(CHECKOUT / "charts" / "darkroom")]
        command += [f"--namespace={system}", f"--kubeconfig={node_cluster.kubeconfig}"]
        command += [f"--set={value}" for value in values]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rollout = ["rollout", "status", "deployment/darkroom-operator", f"--namespace={system}"]
        node_cluster.kubectl(*rollout, "--timeout=120s")
        yield quiet, rough


@pytest.fixture(scope="session")
def base(tmp_path_factory, write_base):
    """A base model that is trained in seconds."""
    folder = tmp_path_factory.mktemp("base") / "base"
    write_base(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def place(node_cluster, served, base):
    """A context of a namespace with a volume, and of the job `subject`, which is applied there."""

    @contextmanager
    def made(class_images=None, **output):
        document = yaml.safe_load(SUBJECT.read_text())
        document["spec"]["output"] |= output
        with node_cluster.namespace("subject", **RESTRICTED) as namespace:
            volume = Volume(node_cluster, namespace)
            volume.put(base, "base")
            if class_images is not None:
                volume.put(class_images, ".darkroom")
            job = ClusterJob(node_cluster, namespace, document["metadata"]["name"])
            node_cluster.kubectl("apply", job.here, "--filename=-", document=document)
            try:
                yield job, volume
            finally:
                _take_away(job)
                volume.remove()

    return made


def _take_away(job):
    """Lets nothing of a job run on beside the next one, however its test ended."""
    job.cluster.kubectl("delete", "pj", job.name, job.here, "--wait=false", "--ignore-not-found")
    wait_for(lambda: not job.pods(), "end of the pods", 200, 1)


@pytest.fixture(scope="session")
def undisturbed(base, tmp_path_factory):
    """Digest of the model that a laptop makes of the same job file, and the class images it made.

    With one core, as a worker on the cluster has: threads add numbers up in another order.
    """
    volumes = tmp_path_factory.mktemp("undisturbed")
    work, kept = volumes / "work", volumes / "kept"
    shutil.copytree(base, volumes / "models" / "base")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "darkroom",
            "train",
            SUBJECT,
            "--work-dir",
            work,
            "--json",
        ],
        env=os.environ | {VOLUMES_ENV: str(volumes)},
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shutil.copytree(work / "class-images", kept / "class-images")
    return json.loads(done.stdout.splitlines()[-1])["digest"], kept
