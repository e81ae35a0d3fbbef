"""KubeRay's operator, outside of any pod: its CRDs from the module that it is built from."""

import subprocess
from pathlib import Path

from darkroom_testing.cluster.api_tier import Ports, component_kubeconfig
from darkroom_testing.cluster.build import Tools
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.processes import answers, start, wait_ready
from darkroom_testing.cluster.state import State

METRICS_PORT = 18080
PROBE_PORT = 18082


def kubectl(tools: Tools, kubeconfig: str, *arguments: str, document: str = "") -> str:
    """Runs kubectl; what it says is the error."""
    cache = Path(kubeconfig).with_name("kubectl-cache")
    command = [tools["kubectl"], f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}", *arguments]
    done = subprocess.run(command, input=document, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def apply(tools: Tools, kubeconfig: str, *arguments: str, document: str = "") -> None:
    """Applies files or a document; server-side, for KubeRay's CRDs are too big for an annotation."""
    flags = ["--server-side", "--force-conflicts"]
    if document:
        flags.append("--filename=-")
    kubectl(tools, kubeconfig, "apply", *flags, *arguments, document=document)


def start_kuberay(state: State, tools: Tools, ports: Ports) -> None:
    """Applies the CRDs and starts the operator, which reaches dashboards through the apiserver."""
    kubeconfig = component_kubeconfig(state, "kuberay", ports)
    crds = sorted(tools.folders["kuberay"].glob("ray.io_*.yaml"))
    apply(tools, kubeconfig, *(f"--filename={path}" for path in crds))
    # `--for=condition=…` is an error for a CRD that has no conditions yet.
    condition = '{.status.conditions[?(@.type=="Established")].status}'
    established = [f"--for=jsonpath={condition}=True", "--timeout=60s"]
    kubectl(tools, kubeconfig, "wait", *established, *(f"--filename={path}" for path in crds))
    flags = [
        "--enable-leader-election=false",
        f"--metrics-addr=127.0.0.1:{METRICS_PORT}",
        f"--health-probe-bind-address=127.0.0.1:{PROBE_PORT}",
        "--use-kubernetes-proxy=true",
        "--reconcile-concurrency=2",
        "--log-stdout-encoder=console",
        "--qps=300",
        "--burst=500",
    ]
    start(state, "kuberay", [tools["kuberay-operator"], *flags], {"KUBECONFIG": kubeconfig})
    wait_ready(state, "kuberay", lambda: answers(PROBE_PORT, "/healthz"))
