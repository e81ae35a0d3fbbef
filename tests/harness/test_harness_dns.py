"""The cluster's DNS: the names of services, and the packets that ask for them."""

import ipaddress
import struct

from darkroom_testing.cluster.cluster_dns import answer, query, zone


def service(name, cluster_ip, **spec):
    spec = {"clusterIP": cluster_ip, **spec}
    return {"metadata": {"name": name, "namespace": "n"}, "spec": spec}


def endpoints(service, *addresses, ready=True):
    labels = {"kubernetes.io/service-name": service}
    metadata = {"namespace": "n", "labels": labels}
    listed = [{"addresses": [one], "conditions": {"ready": ready}} for one in addresses]
    return {"metadata": metadata, "endpoints": listed}


def parsed(reply):
    identifier, flags, _, count, _, _ = struct.unpack_from("!6H", reply)
    tails = [reply[len(reply) - 4 - 16 * index :][:4] for index in range(count)]
    return identifier, flags & 0xF, [str(ipaddress.IPv4Address(one)) for one in reversed(tails)]


def test_a_service_has_its_address_and_a_headless_one_its_endpoints():
    services = [service("web", "10.96.0.7"), service("head", "None")]
    assert zone(services, [endpoints("head", "10.244.0.5", "10.244.0.6")]) == {
        "web.n.svc.cluster.local": ["10.96.0.7"],
        "head.n.svc.cluster.local": ["10.244.0.5", "10.244.0.6"],
    }


def test_endpoints_that_are_not_ready_count_only_where_the_service_says_so():
    slices = [endpoints("head", "10.244.0.5", ready=False)]
    name = "head.n.svc.cluster.local"
    assert zone([service("head", "None")], slices)[name] == []
    early = service("head", "None", publishNotReadyAddresses=True)
    assert zone([early], slices)[name] == ["10.244.0.5"]


def test_a_known_name_is_answered_whatever_its_case():
    names = {"head.n.svc.cluster.local": ["10.244.0.5", "10.244.0.6"]}
    reply = parsed(answer(query("Head.n.svc.cluster.local"), names))
    assert reply == (7, 0, ["10.244.0.5", "10.244.0.6"])


def test_another_type_is_empty_and_an_unknown_name_does_not_exist():
    names = {"head.n.svc.cluster.local": ["10.244.0.5"]}
    assert parsed(answer(query("head.n.svc.cluster.local", kind=28), names)) == (7, 0, [])
    assert parsed(answer(query("example.com"), names)) == (7, 3, [])
