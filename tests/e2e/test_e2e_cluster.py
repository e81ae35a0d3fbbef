"""The example on a real node: helm install, kubectl apply, pods that die, and a model that is verified.

The operator runs in its own pod under its own service account, and every pod is a restricted one.
"""

import json
import os
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from darkroom_cluster.build import ensure
from darkroom_cluster.cluster import Cluster, wait_for

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "examples" / "01-mascot.yaml"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SMALL = (
    "trainer.head.cpu=700m",
    "trainer.head.memory=3Gi",
    "trainer.worker.cpu=1",
    "trainer.worker.memory=4Gi",
    "registry.size=5Gi",
    "operator.tuning.progressSeconds=1",
)
"""Two cores hold an attempt, and progress is told often enough to aim at a step."""
PRODUCTS = "rayjobs,rayclusters,pods,services,configmaps,networkpolicies,poddisruptionbudgets"

pytestmark = pytest.mark.timeout(1500)


class Namespace:
    """A namespace with a registry volume, and the example in it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.here = f"--namespace={name}"

    def apply(self) -> None:
        self.cluster.kubectl("apply", f"--filename={EXAMPLE}", self.here)

    @property
    def status(self) -> dict[str, Any]:
        job = self.cluster.get("personalizationjob", "mascot", self.here)
        assert job is not None
        return dict(job.get("status", {}))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return list(self.status.get("attempts", ()))

    def summary(self) -> tuple[str, str]:
        """Status and reason of the condition that sums up."""
        conditions = self.status.get("conditions", ())
        found = (one for one in conditions if one["type"] == "Succeeded")
        return next(((one["status"], one["reason"]) for one in found), ("Unknown", ""))

    def wait_for_step(self, attempt: int, steps: int) -> None:
        """Waits until the newest attempt is this one and has trained some steps of its own."""

        def reached() -> bool:
            status, (outcome, word) = self.status, self.summary()
            assert outcome == "Unknown", (
                f"over before attempt {attempt} could be disturbed: {status}"
            )
            if word != "Training" or status["attempts"][-1]["name"] != f"mascot-{attempt}":
                return False
            own = status["progress"]["step"] - status["attempts"][-1]["startStep"]
            return bool(own >= steps)

        wait_for(reached, f"step {steps} of attempt {attempt}", 400, 0.3)

    def wait_for_checkpoint(self) -> int:
        step = wait_for(lambda: self.status.get("checkpoint", {}).get("step"), "checkpoint", 400)
        return int(step)

    def succeed(self) -> None:
        """As a user waits."""
        condition = "--for=condition=Succeeded"
        self.cluster.kubectl("wait", condition, "pj/mascot", self.here, "--timeout=600s")

    def pod(self, role: str) -> str:
        selector = f"--selector=darkroom.dev/job=mascot,darkroom.dev/role={role}"
        (found,) = self.cluster.items("pods", selector, self.here)
        return str(found["metadata"]["name"])

    def kill_all_processes(self, pod: str) -> None:
        """As when a machine is lost: nothing of it is told to go, nothing is saved."""
        self.cluster.kubectl("exec", pod, self.here, "--", "sh", "-c", "kill -9 -1 || true")

    def products(self) -> list[str]:
        found = self.cluster.items(PRODUCTS, "--selector=darkroom.dev/job=mascot", self.here)
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found]

    def verified_digest(self) -> str:
        """The digest of the model in the registry volume, as a pod that hashes every file finds it."""
        script = (
            "from pathlib import Path; from darkroom_api.registry import find, load_verified;"
            f" print(load_verified(find(Path('/models'), '{self.name}/mascot')).digest)"
        )
        name = f"verify-{uuid.uuid4().hex[:8]}"
        self.cluster.apply(verifying_pod(name, self.name, ["python", "-c", script]))

        def ended() -> bool:
            found = self.cluster.get("pod", name, self.here)
            return found is not None and found["status"]["phase"] in ("Succeeded", "Failed")

        wait_for(ended, "end of the verification")
        return self.cluster.kubectl("logs", name, self.here).strip()


def verifying_pod(name: str, namespace: str, command: list[str]) -> dict[str, Any]:
    container = {
        "name": "verify",
        "image": "darkroom/trainer:0.1.0",
        "command": command,
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    claim = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": user,
            "containers": [container],
            "volumes": [claim],
        },
    }


@pytest.fixture(scope="module")
def namespaces(node_cluster):
    """The chart, installed by helm as README says, and two namespaces that it serves."""
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
        yield Namespace(node_cluster, quiet), Namespace(node_cluster, rough)


@pytest.fixture(scope="module")
def quiet(namespaces):
    """The example, trained without a disturbance; and its logs while it ran."""
    here = namespaces[0]
    here.apply()
    here.wait_for_step(1, 30)
    command = [sys.executable, "-m", "darkroom", "logs", "mascot", here.here]
    path = f"{Path(here.cluster.kubectl_command).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"KUBECONFIG": str(here.cluster.kubeconfig), "PATH": path}
    logs = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    here.succeed()
    return here, logs.stdout + logs.stderr


def test_the_example_trains_to_a_verified_model(quiet):
    here, logs = quiet
    model = here.status["model"]
    assert model["uri"] == f"pvc://models/{here.name}/mascot/{model['digest']}"
    assert here.verified_digest() == model["digest"]
    assert here.status["progress"]["percent"] == 100
    assert [one["reason"] for one in here.attempts] == ["Completed"]
    assert "Training: step" in logs
    assert "ray-worker" in logs


def test_kubectl_shows_how_it_went(quiet):
    here, _ = quiet
    header, row = here.cluster.kubectl("get", "pj", here.here).splitlines()
    assert header.split() == ["NAME", "STATUS", "STEP", "%", "LOSS", "ETA", "ATTEMPT", "AGE"]
    assert row.split()[:4] == ["mascot", "Completed", "300", "100"]
    wait_for(lambda: not [one for one in here.products() if one.startswith("Pod/")], "end of pods")


@pytest.fixture(scope="module")
def rough(namespaces, quiet):
    """The same job: its worker is killed, it is suspended and resumed, its head pod is deleted."""
    del quiet  # one training at a time
    here = namespaces[1]
    here.apply()
    saved = here.wait_for_checkpoint()
    here.kill_all_processes(here.pod("worker"))
    here.wait_for_step(2, 5)
    suspend = json.dumps({"spec": {"runPolicy": {"suspend": True}}})
    merge = ["patch", "pj", "mascot", here.here, "--type=merge"]
    here.cluster.kubectl(*merge, f"--patch={suspend}")
    wait_for(lambda: here.summary()[1] == "Suspended", "suspension", 200)
    assert not [one for one in here.products() if one.startswith("Pod/")]
    here.cluster.kubectl(*merge, f"--patch={suspend.replace('true', 'false')}")
    here.wait_for_step(3, 5)
    force = ["--grace-period=0", "--force"]
    here.cluster.kubectl("delete", "pod", here.pod("head"), here.here, *force)
    here.succeed()
    return here, saved


def test_a_job_that_lost_its_pods_and_was_suspended_ends_with_the_same_model(quiet, rough):
    here, saved = rough
    attempts = here.attempts
    assert [one["reason"] for one in attempts[:2]] == ["WorkerDied", "Suspended"]
    assert attempts[1]["startStep"] == saved
    assert attempts[2]["startStep"] >= attempts[1]["endStep"] > saved
    # KubeRay may make a new head by itself and submit the job again: then the attempt goes on.
    assert attempts[-1]["reason"] == "Completed"
    assert here.status["model"]["digest"] == quiet[0].status["model"]["digest"]
    assert here.verified_digest() == quiet[0].status["model"]["digest"]


def test_a_deleted_job_takes_everything_along_but_its_model(rough):
    here, _ = rough
    digest = here.status["model"]["digest"]
    here.cluster.kubectl("delete", f"--filename={EXAMPLE}", here.here, "--timeout=120s")
    wait_for(lambda: not here.products(), "end of what the job had")
    assert here.verified_digest() == digest
