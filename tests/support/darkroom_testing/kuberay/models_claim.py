"""The registry's claim where nodes are simulated."""

from darkroom_testing.apiserver.apiserver_world import World
from darkroom_testing.cluster.cluster import Document


def make_models(world: World) -> None:
    """The registry's claim, and a volume for it; of a simulated node nothing is mounted."""
    size, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
    volume: Document = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": world.namespace},
        "spec": {"capacity": size, "accessModes": modes, "hostPath": {"path": "/nowhere"}},
    }
    spec: Document = {
        "accessModes": modes,
        "resources": {"requests": size},
        "volumeName": world.namespace,
    }
    claim: Document = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": world.namespace},
        "spec": spec | {"storageClassName": ""},
    }
    world.cluster.apply(volume, claim)
