"""The *api* tier: etcd, kube-apiserver and kube-controller-manager. No root, loopback only.

The controller-manager makes garbage collection, the deletion of namespaces, service accounts and
quotas real. The other tiers start the same control plane in a network namespace of their own.
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from darkroom_testing.cluster.build import Tools
from darkroom_testing.cluster.pki import NODE_ADDRESS, write_private
from darkroom_testing.cluster.processes import answers, client_tls, start, wait_ready
from darkroom_testing.cluster.state import State

AUDIT_POLICY = Path(__file__).with_name("audit-policy.yaml")
SERVICES = "10.96.0.0/16"
"""The range of the services' addresses."""
QPS = ("--kube-api-qps=300", "--kube-api-burst=500")
"""The controllers' own limits are meant for a large cluster with many of them."""
UNVERIFIED = ssl._create_unverified_context()
"""For a component's own health endpoint, whose certificate it makes itself."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass(frozen=True)
class Ports:
    """Where the control plane listens."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int


OWN_NETWORK = Ports(2379, 2380, 6443, 10257, 10259)
"""Inside a network namespace all ports are free."""


def _start_etcd(state: State, tools: Tools, ports: Ports) -> None:
    client, peer = (f"http://127.0.0.1:{port}" for port in (ports.etcd, ports.etcd_peer))
    arguments = {
        "name": "etcd",
        "data-dir": str(state.folder / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"etcd={peer}",
    }
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    start(state, "etcd", [tools["etcd"], *flags, "--unsafe-no-fsync"])
    wait_ready(state, "etcd", lambda: answers(ports.etcd, "/health"))


def _apiserver_flags(state: State, ports: Ports) -> dict[str, object]:
    authority = state.authority
    return {
        "etcd-servers": f"http://127.0.0.1:{ports.etcd}",
        "secure-port": ports.apiserver,
        "tls-cert-file": authority.certificate("apiserver"),
        "tls-private-key-file": authority.key("apiserver"),
        "client-ca-file": authority.certificate("ca"),
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": authority.folder / "tokens.pub",
        "service-account-signing-key-file": authority.key("tokens"),
        "service-cluster-ip-range": SERVICES,
        "allow-privileged": "true",
        "anonymous-auth": "false",
        "audit-policy-file": AUDIT_POLICY,
        "audit-log-path": state.audit_log,
    }


def _loopback_flags() -> dict[str, object]:
    # The service `kubernetes` cannot have a loopback address as its endpoint.
    return {
        "bind-address": "127.0.0.1",
        "authorization-mode": "RBAC",
        "endpoint-reconciler-type": "none",
    }


def _own_network_flags(state: State) -> dict[str, object]:
    authority = state.authority
    return {
        "bind-address": "0.0.0.0",
        "advertise-address": NODE_ADDRESS,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "kubelet-client-certificate": authority.certificate("kubelet-client"),
        "kubelet-client-key": authority.key("kubelet-client"),
        "kubelet-certificate-authority": authority.certificate("ca"),
        "kubelet-preferred-address-types": "InternalIP",
        "requestheader-client-ca-file": authority.certificate("ca"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "proxy-client-cert-file": authority.certificate("front-proxy"),
        "proxy-client-key-file": authority.key("front-proxy"),
    }


def _start_apiserver(state: State, tools: Tools, ports: Ports, *, own_network: bool) -> None:
    flags = _apiserver_flags(state, ports)
    flags |= _own_network_flags(state) if own_network else _loopback_flags()
    command = [tools["kube-apiserver"], *(f"--{name}={value}" for name, value in flags.items())]
    start(state, "kube-apiserver", command)
    tls = client_tls(state)
    wait_ready(state, "kube-apiserver", lambda: answers(ports.apiserver, "/readyz", tls))


def component_kubeconfig(state: State, user: str, ports: Ports) -> str:
    """The kubeconfig of a component that runs beside the apiserver."""
    document = state.authority.kubeconfig(user, f"https://127.0.0.1:{ports.apiserver}")
    return str(write_private(state.authority.folder / f"{user}.kubeconfig", document))


def _start_controller_manager(state: State, tools: Tools, ports: Ports) -> None:
    authority = state.authority
    flags: dict[str, object] = {
        "kubeconfig": component_kubeconfig(state, "controller-manager", ports),
        "use-service-account-credentials": "true",
        "service-account-private-key-file": authority.key("tokens"),
        "root-ca-file": authority.certificate("ca"),
        "cluster-signing-cert-file": authority.certificate("ca"),
        "cluster-signing-key-file": authority.key("ca"),
        "bind-address": "127.0.0.1",
        "secure-port": ports.controller_manager,
        "leader-elect": "false",
        "allocate-node-cidrs": "false",
        "node-monitor-grace-period": "20s",
        "controllers": "*,-bootstrap-signer-controller,-token-cleaner-controller",
    }
    start_component(state, tools, "kube-controller-manager", flags, ports.controller_manager)


def start_component(
    state: State, tools: Tools, name: str, flags: dict[str, object], port: int
) -> None:
    """Starts a controller of Kubernetes' own and waits until it says it is well."""
    command = [tools[name], *(f"--{flag}={value}" for flag, value in flags.items()), *QPS]
    start(state, name, command)
    wait_ready(state, name, lambda: answers(port, "/healthz", UNVERIFIED))


def start_scheduler(state: State, tools: Tools, ports: Ports) -> None:
    """Starts what binds pods to nodes: for the tiers that have nodes."""
    flags: dict[str, object] = {
        "kubeconfig": component_kubeconfig(state, "scheduler", ports),
        "bind-address": "127.0.0.1",
        "secure-port": ports.scheduler,
        "leader-elect": "false",
    }
    start_component(state, tools, "kube-scheduler", flags, ports.scheduler)


def start_control_plane(state: State, tools: Tools, ports: Ports, *, own_network: bool) -> None:
    """Starts etcd, the apiserver and the controller-manager, each when the one before is ready."""
    state.authority.create()
    _start_etcd(state, tools, ports)
    _start_apiserver(state, tools, ports, own_network=own_network)
    _start_controller_manager(state, tools, ports)
    component_kubeconfig(state, "admin", ports)


def start_api_tier(state: State, tools: Tools) -> None:
    """Starts the tier on free ports of the loopback address, and writes its kubeconfig."""
    ports = Ports(*free_ports(5))
    start_control_plane(state, tools, ports, own_network=False)
    write_kubeconfig(state, ports.apiserver)


def write_kubeconfig(state: State, port: int) -> None:
    """Writes the kubeconfig that people and tests use, from the network of the machine."""
    document = state.authority.kubeconfig("admin", f"https://127.0.0.1:{port}")
    write_private(state.kubeconfig, document)
    state.update(port=port)
