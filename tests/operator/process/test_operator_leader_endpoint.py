"""Reports of progress reach the leader: its address is in the Service's slice while it leads."""

import asyncio
from dataclasses import replace

import pytest

from darkroom_operator.launch.manifests.leader import leader_slice
from darkroom_testing.in_memory.builders import SETTINGS
from darkroom_testing.in_memory.fake_api import failure
from darkroom_testing.in_memory.whole_process import WholeApi, fine, refused, running

PLACE = ("endpointslices", "default", "progress-leader")


def addresses(api):
    return [one["addresses"] for one in api.objects[PLACE]["endpoints"]]


def writes(api):
    return [method for method, path in api.calls if "endpointslices" in path and method != "GET"]


@pytest.mark.parametrize(
    ("pod_ip", "kind", "address"),
    [("10.1.2.3", "IPv4", "10.1.2.3"), ("fd00:0::1", "IPv6", "fd00::1")],
)
def test_the_slice_holds_the_leader_alone(pod_ip, kind, address):
    settings = replace(
        SETTINGS,
        pod_ip=pod_ip,
        progress_service="darkroom-progress",
        pod_namespace="darkroom",
        pod_name="operator-1",
        port=8081,
    )
    assert leader_slice(settings) == {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "darkroom-progress-leader",
            "namespace": "darkroom",
            "labels": {
                "kubernetes.io/service-name": "darkroom-progress",
                "endpointslice.kubernetes.io/managed-by": "darkroom-operator",
            },
        },
        "addressType": kind,
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": "darkroom", "name": "operator-1"},
            }
        ],
        "ports": [{"name": "progress", "port": 8081, "protocol": "TCP", "appProtocol": "http"}],
    }


def test_an_address_that_is_none_is_refused_at_the_start():
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        leader_slice(replace(SETTINGS, progress_service="progress"))


def test_who_begins_to_lead_writes_it_once_and_again_when_it_has_come_to_differ(virtual):
    async def main():
        api, found = WholeApi(), []
        async with running(api, resync_seconds=30):
            found.append((addresses(api), writes(api)))
            await asyncio.sleep(100)
            found.append(writes(api))
            del api.objects[PLACE]
            await asyncio.sleep(31)
            found.append((addresses(api), writes(api)))
            other = api.objects[PLACE] | {"endpoints": [{"addresses": ["10.9.9.9"]}]}
            api.store(PLACE, other)
            await asyncio.sleep(31)
            found.append((addresses(api), len(writes(api))))
        return found

    ours = [["10.1.2.3"]]
    assert virtual(main()) == [(ours, ["PATCH"]), ["PATCH"], (ours, ["PATCH"] * 2), (ours, 3)]


def test_a_write_that_fails_is_repeated_until_it_is_done(virtual, caplog):
    async def main():
        api = WholeApi()
        api.disturb = lambda method, path: (
            failure(403, "endpointslices is forbidden") if "endpointslices" in path else None
        )
        async with running(api):
            await asyncio.sleep(100)
            before = PLACE in api.objects
            api.disturb = fine
            await asyncio.sleep(5)
            return before, addresses(api)

    assert virtual(main()) == (False, [["10.1.2.3"]])
    told = [line for line in caplog.messages if line.startswith("no access to the Service")]
    assert len(told) == 2  # in a hundred seconds


def test_who_leads_again_writes_it_again(virtual):
    async def main():
        api = WholeApi()
        async with running(api) as whole:
            api.disturb = refused
            await asyncio.sleep(20)
            assert not whole.process.election.leads
            api.store(PLACE, api.objects[PLACE] | {"endpoints": [{"addresses": ["10.9.9.9"]}]})
            api.disturb = fine
            await asyncio.sleep(5)
            return addresses(api)

    assert virtual(main()) == [["10.1.2.3"]]


def test_a_standby_writes_nothing(virtual):
    async def main():
        api = WholeApi()
        async with running(api):
            await asyncio.sleep(5)
            async with running(api, pod_ip="10.9.9.9"):
                await asyncio.sleep(60)
                return addresses(api)

    assert virtual(main()) == [["10.1.2.3"]]


def test_without_a_service_nothing_is_written(virtual):
    async def main():
        api = WholeApi()
        async with running(api, progress_service="", pod_ip=""):
            await asyncio.sleep(60)
        return [path for _, path in api.calls if "endpointslices" in path]

    assert virtual(main()) == []
