"""A job on a cluster, watched as its user does: by what kubectl prints."""

import json
import uuid
from typing import Any

from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.cluster.disturbances import NodeCluster

PRODUCTS = "rayjobs,rayclusters,pods,services,configmaps,networkpolicies,poddisruptionbudgets"


class ClusterJob:
    """A job in a namespace, whether it is there yet or not."""

    def __init__(self, cluster: NodeCluster, namespace: str, name: str) -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, name
        self.here = f"--namespace={namespace}"

    @property
    def status(self) -> dict[str, Any]:
        job = self.cluster.get("personalizationjob", self.name, self.here)
        assert job is not None
        return dict(job.get("status", {}))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return list(self.status.get("attempts", ()))

    def condition(self, kind: str = "Succeeded") -> dict[str, Any]:
        """The condition that sums up, or another one; empty before there is one."""
        conditions = self.status.get("conditions", ())
        return next((one for one in conditions if one["type"] == kind), {})

    @property
    def word(self) -> str:
        """STATUS of `kubectl get`."""
        return str(self.condition().get("reason", ""))

    def words(self) -> str:
        """All that the status and the events of the job say, as `kubectl describe` shows it."""
        told = [f"{one['reason']}: {one['message']}" for one in self.status.get("conditions", ())]
        of_job = f"--field-selector=involvedObject.name={self.name}"
        events = self.cluster.items("events", of_job, self.here)
        return "\n".join([*told, *(f"{one['reason']}: {one['message']}" for one in events)])

    def forget_events(self) -> None:
        """So that what is told next is new."""
        of_job = f"--field-selector=involvedObject.name={self.name}"
        self.cluster.kubectl("delete", "events", of_job, self.here)

    def wait_for_word(self, *words: str, seconds: float = 300) -> str:
        return wait_for(
            lambda: next((word for word in words if word == self.word), None),
            f"{' or '.join(words)} of {self.namespace}/{self.name}",
            seconds,
            0.5,
        )

    def wait_for_step(self, attempt: int, steps: int) -> None:
        """Waits until the newest attempt is this one and has trained some steps of its own."""

        def reached() -> bool:
            status, summary = self.status, self.condition()
            assert summary.get("status", "Unknown") == "Unknown", (
                f"over before attempt {attempt} could be disturbed: {status}"
            )
            newest = f"{self.name}-{attempt}"
            if summary.get("reason") != "Training" or status["attempts"][-1]["name"] != newest:
                return False
            own = status["progress"]["step"] - status["attempts"][-1]["startStep"]
            return bool(own >= steps)

        wait_for(reached, f"step {steps} of attempt {attempt}", 400, 0.3)

    def wait_for_checkpoint(self) -> int:
        step = wait_for(lambda: self.status.get("checkpoint", {}).get("step"), "checkpoint", 400)
        return int(step)

    def succeed(self, seconds: int = 600) -> None:
        """As a user waits."""
        condition = "--for=condition=Succeeded"
        self.cluster.kubectl(
            "wait", condition, f"pj/{self.name}", self.here, f"--timeout={seconds}s"
        )

    def apply_again(self) -> None:
        """Deletes the job and creates it anew, as a user who has mended what ended it."""
        found = self.cluster.get("personalizationjob", self.name, self.here) or {}
        anew = {key: found[key] for key in ("apiVersion", "kind", "spec")}
        self.cluster.kubectl("delete", "pj", self.name, self.here)
        self.cluster.apply(anew | {"metadata": {"name": self.name, "namespace": self.namespace}})

    def suspend(self, *, wanted: bool) -> None:
        patch = json.dumps({"spec": {"runPolicy": {"suspend": wanted}}})
        self.cluster.kubectl(
            "patch", "pj", self.name, self.here, "--type=merge", f"--patch={patch}"
        )

    def pods(self, *selectors: str) -> list[dict[str, Any]]:
        """Its pods, those of one role or attempt if asked."""
        selector = ",".join((f"darkroom.dev/job={self.name}", *selectors))
        return self.cluster.items("pods", f"--selector={selector}", self.here)

    def pod(self, role: str) -> str:
        (found,) = self.pods(f"darkroom.dev/role={role}")
        return str(found["metadata"]["name"])

    def products(self) -> list[str]:
        selector = f"--selector=darkroom.dev/job={self.name}"
        found = self.cluster.items(PRODUCTS, selector, self.here)
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found]

    def verified_digest(self) -> str:
        """The digest of the model in the registry volume, as a pod that hashes every file finds it."""
        script = (
            "from pathlib import Path; from darkroom_api.registry import find, load_verified;"
            f" print(load_verified(find(Path('/models'), '{self.namespace}/{self.name}')).digest)"
        )
        name = f"verify-{uuid.uuid4().hex[:8]}"
        self.cluster.apply(verifying_pod(name, self.namespace, ["python", "-c", script]))

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
