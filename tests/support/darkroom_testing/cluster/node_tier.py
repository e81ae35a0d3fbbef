"""The *node* tier: one real node. containerd, kubelet, kube-proxy, DNS, and volumes to claim.

All of it runs in the cluster's namespaces and under its control group: its pods can be reached
through the apiserver alone, and nothing of it outlives the cluster.
"""

import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from darkroom_testing.cluster import cgroups
from darkroom_testing.cluster.api_tier import Ports, component_kubeconfig
from darkroom_testing.cluster.build import Tools
from darkroom_testing.cluster.cluster_dns import is_served
from darkroom_testing.cluster.errors import ClusterError, ClusterUnavailableError
from darkroom_testing.cluster.images import PAUSE, base_spec, default_images, write_images
from darkroom_testing.cluster.kuberay import apply, kubectl
from darkroom_testing.cluster.namespaces import BRIDGE, PODS, run
from darkroom_testing.cluster.pki import NODE_ADDRESS
from darkroom_testing.cluster.processes import answers, python_path, start, wait_ready
from darkroom_testing.cluster.state import State

NODE = "node1"
CNI_PLUGINS = Path("/usr/lib/cni")
COMMANDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "nft": "nftables",
}
"""What a node needs besides the built commands, and the Debian package of each."""
KUBELET_HEALTH = 10248
PROXY_HEALTH = 10256
VOLUMES = 8
VOLUME_GIB = 20
"""What a volume holds at most: of the machine's memory, and no more than what is on it."""
STORAGE_CLASS = "darkroom-test"


def check_node() -> None:
    """Raises `ClusterUnavailableError` when this machine cannot be a node."""
    missing = {package for command, package in COMMANDS.items() if not shutil.which(command)}
    if not (CNI_PLUGINS / "bridge").exists():
        missing.add("containernetworking-plugins")
    if missing:
        names = " ".join(sorted(missing))
        raise ClusterUnavailableError(
            f"the node tier needs: apt-get install --no-install-recommends {names}"
        )
    if platform.machine() != "x86_64":
        raise ClusterUnavailableError("the node tier runs on x86_64 only: so are its images")
    if not cgroups.hierarchies():
        raise ClusterUnavailableError("the node tier needs control groups at /sys/fs/cgroup")


def _containerd_folder(state: State) -> Path:
    return state.folder / "containerd"


def _socket(state: State) -> Path:
    return _containerd_folder(state) / "containerd.sock"


def containerd_config(folder: Path) -> str:
    """The configuration of containerd, with all its folders in one; no OOM scores below its own."""
    return f"""\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "{folder}/base.json"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{folder}/net.d"
"""


def cni_config(folder: Path) -> dict[str, Any]:
    """The pods' network: a bridge, addresses from a folder, ports of the node."""
    ranges, routes = [[{"subnet": PODS}]], [{"dst": "0.0.0.0/0"}]
    addresses = {"type": "host-local", "dataDir": f"{folder}/addresses"}
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {**addresses, "ranges": ranges, "routes": routes},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    plugins = [bridge, ports, {"type": "loopback"}]
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}


def _ctr(state: State, *arguments: str) -> str:
    """What containerd says of the pods' images and containers."""
    address = ["--address", str(_socket(state)), "--namespace", "k8s.io"]
    return run("ctr", *address, *arguments)


def containerd_answers(state: State) -> bool:
    """Whether containerd is ready."""
    try:
        return bool(_ctr(state, "version"))
    except ClusterError:
        return False


def import_image(state: State, archive: Path) -> None:
    """Gives the node an image."""
    _ctr(state, "images", "import", str(archive))


def first_process(state: State, container: str) -> int:
    """The first process of a container, as the machine numbers it."""
    for line in _ctr(state, "tasks", "list").splitlines():
        if line.startswith(container):
            return int(line.split()[1])
    raise ClusterError(f"containerd runs no container {container}")


def _start_containerd(state: State, tools: Tools) -> None:
    folder = _containerd_folder(state)
    (folder / "net.d").mkdir(parents=True)
    (folder / "net.d" / "10-pods.conflist").write_text(json.dumps(cni_config(folder)))
    (folder / "base.json").write_text(json.dumps(base_spec()))
    (folder / "config.toml").write_text(containerd_config(folder))
    start(state, "containerd", ["containerd", "--config", str(folder / "config.toml")])
    wait_ready(state, "containerd", lambda: containerd_answers(state))
    archives = write_images(state.folder / "images", Path(tools["pause"]), default_images())
    for archive in archives:
        import_image(state, archive)


def kubelet_config(state: State) -> dict[str, Any]:
    """A kubelet on whatever control groups there are, with the cluster's as its root."""
    authority = state.authority
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "containerRuntimeEndpoint": f"unix://{_socket(state)}",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(authority.certificate(NODE)),
        "tlsPrivateKeyFile": str(authority.key(NODE)),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": state.meta()["cgroup"],
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [NODE_ADDRESS],
        "resolvConf": str(state.folder / "resolv.conf"),
        "volumePluginDir": str(state.folder / "kubelet" / "plugins"),
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": 0,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": KUBELET_HEALTH,
        "nodeStatusUpdateFrequency": "5s",
        "maxPods": 50,
    }


def _start_kubelet(state: State, tools: Tools, ports: Ports) -> None:
    (state.folder / "resolv.conf").write_text(f"nameserver {NODE_ADDRESS}\n")
    config = state.folder / "kubelet.json"
    config.write_text(json.dumps(kubelet_config(state)))
    flags = {
        "config": config,
        "kubeconfig": component_kubeconfig(state, NODE, ports),
        "hostname-override": NODE,
        "node-ip": NODE_ADDRESS,
        "root-dir": state.folder / "kubelet",
    }
    start(state, "kubelet", [tools["kubelet"], *(f"--{k}={v}" for k, v in flags.items())])
    wait_ready(state, "kubelet", lambda: answers(KUBELET_HEALTH, "/healthz"))


def proxy_config(kubeconfig: str) -> dict[str, Any]:
    """kube-proxy's configuration; connection tracking is the machine's, and left alone."""
    untouched = {"tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "127.0.0.1",
        "healthzBindAddress": f"127.0.0.1:{PROXY_HEALTH}",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": kubeconfig},
        "hostnameOverride": NODE,
        "clusterCIDR": PODS,
        "mode": "iptables",
        "conntrack": {"maxPerCore": 0, "min": 0, **untouched},
    }


def _start_proxy(state: State, tools: Tools, ports: Ports) -> None:
    config = state.folder / "kube-proxy.json"
    config.write_text(json.dumps(proxy_config(component_kubeconfig(state, "kube-proxy", ports))))
    start(state, "kube-proxy", [tools["kube-proxy"], f"--config={config}"])
    wait_ready(state, "kube-proxy", lambda: answers(PROXY_HEALTH, "/healthz"))


def _start_dns(state: State, ports: Ports) -> None:
    arguments = [NODE_ADDRESS, str(ports.apiserver), state.name]
    command = [sys.executable, "-m", "darkroom_testing.cluster.cluster_dns", *arguments]
    start(state, "dns", command, python_path())
    wait_ready(state, "dns", lambda: is_served(NODE_ADDRESS))


def _storage(state: State) -> list[dict[str, Any]]:
    """The default class, and volumes of it that wait to be claimed: each can be full."""
    meta = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    storage: list[dict[str, Any]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": STORAGE_CLASS, **meta},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    for number in range(VOLUMES):
        folder = state.folder / "volumes" / str(number)
        folder.mkdir(parents=True)
        options = f"size={VOLUME_GIB}g,mode=777"  # whoever the pod's user is
        run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
        volume = {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": f"{VOLUME_GIB}Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
        }
        metadata = {"name": f"volume-{number}"}
        kind = {"apiVersion": "v1", "kind": "PersistentVolume"}
        storage.append({**kind, "metadata": metadata, "spec": volume})
    return storage


def start_node(state: State, tools: Tools, ports: Ports) -> None:
    """Starts the node, and waits until it takes pods."""
    _start_containerd(state, tools)
    _start_kubelet(state, tools, ports)
    _start_proxy(state, tools, ports)
    _start_dns(state, ports)
    admin = component_kubeconfig(state, "admin", ports)
    storage = {"apiVersion": "v1", "kind": "List", "items": _storage(state)}
    apply(tools, admin, document=json.dumps(storage))
    kubectl(tools, admin, "wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=120s")
