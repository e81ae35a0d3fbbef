"""Pods for tests of the *node* tier: as the restricted standard wants them, in an image of ours."""

from typing import Any

IMAGE = "docker.io/darkroom/trainer:dev"
USER = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def restricted_pod(
    name: str, namespace: str, command: list[str], claim: str | None = None, **spec: Any
) -> dict[str, Any]:
    """A pod of one container `main` that is not started again; the claim is its `/models`."""
    container: dict[str, Any] = {"name": "main", "image": IMAGE, "command": command}
    container["securityContext"] = RESTRICTED
    volumes: list[dict[str, Any]] = []
    if claim:
        container["volumeMounts"] = [{"name": "models", "mountPath": "/models"}]
        volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": USER,
            "containers": [container],
            "volumes": volumes,
            "terminationGracePeriodSeconds": 1,
            **spec,
        },
    }


def volume_claim(name: str, namespace: str) -> dict[str, Any]:
    """A claim of the default class: one of the node's volumes, which it shares with no other."""
    size = {"requests": {"storage": "1Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": size},
    }
