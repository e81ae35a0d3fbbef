"""The *scale* tier: nodes and pods simulated by kwok, whose Ray dashboards are simulated too.

The scheduler and KubeRay are real: hundreds of RayJobs go through their whole life in seconds.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from darkroom_testing.cluster.api_tier import Ports, component_kubeconfig
from darkroom_testing.cluster.build import Tools
from darkroom_testing.cluster.kuberay import kubectl
from darkroom_testing.cluster.namespaces import FAKE_PODS
from darkroom_testing.cluster.pki import NODE_ADDRESS
from darkroom_testing.cluster.processes import answers, python_path, start, wait_ready
from darkroom_testing.cluster.state import State

KWOK_PORT = 10247
DASHBOARD_PORT = 8265
NODES = 10
CAPACITY = {"cpu": "1000", "memory": "4Ti", "pods": "2000", "nvidia.com/gpu": "800"}
"""Of each simulated node: in all, room for ten thousand jobs of two pods."""
OWN_STAGES = Path(__file__).with_name("stages.yaml")


def node(name: str) -> dict[str, object]:
    """A node that kwok keeps alive."""
    labels = {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"capacity": CAPACITY, "allocatable": CAPACITY},
    }


def _write_stages(state: State, sources: Sequence[Path]) -> Path:
    path = state.folder / "stages.yaml"
    path.write_text("\n---\n".join(source.read_text() for source in sources))
    return path


def _start_kwok(state: State, tools: Tools, kubeconfig: str) -> None:
    stages = [*sorted(tools.folders["kwok"].glob("*.yaml")), OWN_STAGES]
    flags = {
        "kubeconfig": kubeconfig,
        "config": str(_write_stages(state, stages)),
        "manage-all-nodes": "false",
        "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
        "cidr": FAKE_PODS,
        "node-ip": NODE_ADDRESS,
        "node-port": str(KWOK_PORT),
        "server-address": f"127.0.0.1:{KWOK_PORT}",
        "node-lease-duration-seconds": "40",
    }
    command = [tools["kwok"], *(f"--{name}={value}" for name, value in flags.items())]
    start(state, "kwok", command)
    wait_ready(state, "kwok", lambda: answers(KWOK_PORT, "/healthz"))


def _start_dashboards(state: State) -> None:
    arguments = [str(DASHBOARD_PORT), str(state.simulation)]
    command = [sys.executable, "-m", "darkroom_testing.cluster.dashboards", *arguments]
    start(state, "dashboards", command, python_path())
    wait_ready(state, "dashboards", lambda: answers(DASHBOARD_PORT, "/api/version"))


def start_simulation(state: State, tools: Tools, ports: Ports) -> None:
    """Starts kwok and the dashboards, and makes the nodes."""
    kubeconfig = component_kubeconfig(state, "kwok", ports)
    _start_dashboards(state)
    _start_kwok(state, tools, kubeconfig)
    nodes = [node(f"fake-{number}") for number in range(NODES)]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes})
    kubectl(tools, kubeconfig, "create", "--filename=-", document=document)
    ready = ["wait", "--for=condition=Ready", "node", "--all", "--timeout=120s"]
    kubectl(tools, kubeconfig, *ready)
