"""What a cluster does to its pods, by its own means: the node of the *node* tier, and how it fails."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from darkroom_testing.cluster.cgroups import exhaust_memory
from darkroom_testing.cluster.cluster import Cluster, wait_for
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.namespaces import run
from darkroom_testing.cluster.node_tier import NODE, VOLUME_GIB, containerd_answers, first_process
from darkroom_testing.cluster.processes import wait_ready

TAINT = "darkroom.dev/disturbed"
DRAIN_SECONDS = 300
"""How long a drain waits for budgets and for pods that take their time."""
PAGE = 4096
"""The least that a volume of tmpfs can be; 0 is no limit."""


class NodeCluster(Cluster):
    """A cluster with one real node, as tests of faults need it."""

    def restart_kubelet(self) -> None:
        """Kills the kubelet and starts it again; pods go on meanwhile."""
        self.restart("kubelet")
        wait_ready(self.local, "kubelet", self._kubelet_answers)

    def _kubelet_answers(self) -> bool:
        try:
            return self.kubectl("get", f"--raw=/api/v1/nodes/{NODE}/proxy/healthz") == "ok"
        except ClusterError:
            return False

    def restart_containerd(self) -> None:
        """Kills containerd and starts it again; the shims hold the pods meanwhile."""
        self.restart("containerd")
        wait_ready(self.local, "containerd", lambda: containerd_answers(self.local))

    def kill_container(self, pod: str, namespace: str, container: str) -> None:
        """Kills the first process of a container from outside, as root on the node can."""
        os.kill(self._first_process(pod, namespace, container), signal.SIGKILL)

    def kill_shim(self, pod: str, namespace: str) -> None:
        """Kills the process that holds all containers of a pod: containerd ends them."""
        status = Path(f"/proc/{self._first_process(pod, namespace)}/status").read_text()
        parent = next(line for line in status.splitlines() if line.startswith("PPid:"))
        os.kill(int(parent.split()[1]), signal.SIGKILL)

    def starve(self, pod: str, namespace: str, container: str) -> None:
        """Makes the kernel's OOM killer strike once in a container, as when its limit is too low."""
        exhaust_memory(self._first_process(pod, namespace, container))

    def _first_process(self, pod: str, namespace: str, container: str | None = None) -> int:
        """The first process of a running container: of any one, if none is named."""
        status = (self.get("pod", pod, f"--namespace={namespace}") or {}).get("status", {})
        found = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
        for one in found:
            if "running" in one["state"] and container in (None, one["name"]):
                return first_process(self.local, one["containerID"].removeprefix("containerd://"))
        raise ClusterError(f"no container {container or ''} of {namespace}/{pod} runs")

    def fill_volume(self, claim: str, namespace: str) -> None:
        """Leaves no room on the volume of a claim; what is on it stays."""
        folder = self._volume(claim, namespace)

        def shrunk() -> bool:
            state = os.statvfs(f"/proc/{self.inside_process()}/root{folder}")
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            with suppress(ClusterError):  # more is on it by now
                self._resize(folder, f"{max(used, PAGE)}")
                return True
            return False

        wait_for(shrunk, f"moment without a write to {folder}", seconds=30, pause=0)

    def free_volume(self, claim: str, namespace: str) -> None:
        """Gives the volume of a claim its room back."""
        self._resize(self._volume(claim, namespace), f"{VOLUME_GIB}g")

    def _volume(self, claim: str, namespace: str) -> str:
        """The folder of the volume that a claim is bound to."""
        found = self.get("pvc", claim, f"--namespace={namespace}") or {}
        volume = self.get("pv", found.get("spec", {}).get("volumeName", "none"))
        if volume is None:
            raise ClusterError(f"the claim {namespace}/{claim} is not bound to a volume")
        return str(volume["spec"]["hostPath"]["path"])

    def _resize(self, folder: str, size: str) -> None:
        run(*self.command_inside("mount", "-o", f"remount,size={size}", folder))

    def evict(self, pod: str, namespace: str) -> None:
        """Asks for the pod's end as a drain does; refused when a disruption budget says so."""
        metadata = {"name": pod, "namespace": namespace}
        eviction: dict[str, Any] = {"apiVersion": "policy/v1", "kind": "Eviction"}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
        document = json.dumps(eviction | {"metadata": metadata})
        self.kubectl("create", f"--raw={path}", "--filename=-", document=document)

    def drain(self, *selectors: str) -> None:
        """Closes the node and evicts its pods, or those of a selector; waits until they are gone."""
        flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--force"]
        flags += [f"--pod-selector={one}" for one in selectors]
        self.kubectl("drain", NODE, *flags, f"--timeout={DRAIN_SECONDS}s")

    def uncordon(self) -> None:
        """Opens the node again after a drain."""
        self.kubectl("uncordon", NODE)

    def taint(self, effect: str) -> None:
        """Taints the node: `NoSchedule` keeps pods away, `NoExecute` ends those that run as well."""
        self.kubectl("taint", "node", NODE, f"{TAINT}=:{effect}", "--overwrite")

    def untaint(self) -> None:
        """Takes that taint away."""
        self.kubectl("taint", "node", NODE, f"{TAINT}-")
