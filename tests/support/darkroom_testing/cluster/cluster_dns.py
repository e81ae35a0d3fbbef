"""The cluster's DNS: A records of services, of their endpoints where they are headless.

Services and endpoints are read twice a second; a name that is not known is NXDOMAIN, another type
than A an empty answer. `python -m darkroom_testing.cluster.cluster_dns ADDRESS PORT STATE`.
"""

import ipaddress
import json
import socket
import socketserver
import struct
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable
from typing import Any

from darkroom_testing.cluster.processes import client_tls
from darkroom_testing.cluster.state import State

DOMAIN = "svc.cluster.local"
TYPE_A = 1
CLASS_IN = 1
PORT = 53
NAME_ERROR = 3
TTL_SECONDS = 1
POLL_SECONDS = 0.5

Zone = dict[str, list[str]]


def zone(services: Iterable[dict[str, Any]], slices: Iterable[dict[str, Any]]) -> Zone:
    """The addresses by name, lower case and without the dot at the end."""
    ready: Zone = {}
    all_addresses: Zone = {}
    for one in slices:
        meta = one["metadata"]
        service = meta.get("labels", {}).get("kubernetes.io/service-name", "")
        name = f"{service}.{meta['namespace']}.{DOMAIN}"
        for endpoint in one.get("endpoints") or []:
            all_addresses.setdefault(name, []).extend(endpoint["addresses"])
            if endpoint.get("conditions", {}).get("ready", True):
                ready.setdefault(name, []).extend(endpoint["addresses"])
    names: Zone = {}
    for one in services:
        name = f"{one['metadata']['name']}.{one['metadata']['namespace']}.{DOMAIN}"
        address = one["spec"].get("clusterIP")
        early = one["spec"].get("publishNotReadyAddresses")
        endpoints = (all_addresses if early else ready).get(name, [])
        names[name] = endpoints if address in (None, "", "None") else [address]
    return names


def query(name: str, kind: int = TYPE_A) -> bytes:
    """The packet that asks for a name."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    header = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!HH", kind, CLASS_IN)


def is_served(address: str) -> bool:
    """Whether somebody at this address answers queries."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        try:
            asking.sendto(query(f"kubernetes.default.{DOMAIN}"), (address, PORT))
            return len(asking.recv(512)) > 0
        except OSError:
            return False


def _question(packet: bytes) -> tuple[str, int, int]:
    """The name that a query asks for, its type, and where the question ends."""
    labels, position = [], 12
    while length := packet[position]:
        labels.append(packet[position + 1 : position + 1 + length].decode("ascii", "replace"))
        position += 1 + length
    (kind,) = struct.unpack_from("!H", packet, position + 1)
    return ".".join(labels).lower(), kind, position + 5


def answer(packet: bytes, names: Zone) -> bytes:
    """The reply to a query: authoritative, without recursion."""
    name, kind, end = _question(packet)
    addresses = names.get(name, []) if kind == TYPE_A else []
    (identifier, flags) = struct.unpack_from("!HH", packet)
    code = 0 if name in names else NAME_ERROR
    header = (identifier, 0x8400 | flags & 0x0100 | code, 1, len(addresses), 0, 0)
    records = [
        struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, TTL_SECONDS, 4)
        + ipaddress.IPv4Address(address).packed
        for address in addresses
    ]
    return struct.pack("!6H", *header) + packet[12:end] + b"".join(records)


class Names:
    """The names of the cluster, renewed by a thread."""

    def __init__(self, port: int, state: State) -> None:
        self._base = f"https://127.0.0.1:{port}"
        tls = urllib.request.HTTPSHandler(context=client_tls(state, "dns"))
        self._open = urllib.request.build_opener(tls).open
        self.zone: Zone = {}

    def _list(self, path: str) -> list[dict[str, Any]]:
        with self._open(self._base + path, timeout=5) as response:
            items: list[dict[str, Any]] = json.load(response)["items"]
        return items

    def renew(self) -> None:
        slices = self._list("/apis/discovery.k8s.io/v1/endpointslices")
        self.zone = zone(self._list("/api/v1/services"), slices)

    def renew_forever(self) -> None:
        while True:
            try:
                self.renew()
            except (OSError, ValueError) as error:  # the apiserver is away: the names stay
                print("names not renewed:", error, flush=True)
            time.sleep(POLL_SECONDS)


def main() -> None:
    """Answers until it is stopped."""
    address, port, name = sys.argv[1:]
    names = Names(int(port), State(name))
    names.renew()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            packet, sock = self.request
            try:
                reply = answer(packet, names.zone)
            except (IndexError, struct.error):  # no query
                return
            sock.sendto(reply, self.client_address)

    threading.Thread(target=names.renew_forever, daemon=True).start()
    socketserver.ThreadingUDPServer((address, PORT), Handler).serve_forever()


if __name__ == "__main__":
    main()
