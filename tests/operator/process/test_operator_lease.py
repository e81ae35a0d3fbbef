"""Leader election in virtual time: who leads, when, and that nobody writes who may not."""

import asyncio
import copy
import time

import pytest

from darkroom_operator.cluster.election import (
    LEASE_SECONDS,
    RENEW_DEADLINE_SECONDS,
    RENEW_SECONDS,
    WATCH_SECONDS,
    Election,
    boot_seconds,
)
from darkroom_operator.cluster.errors import ConflictError, RefusedError, UnavailableError
from darkroom_testing.in_memory.builders import NOW


class SharedLease:
    """The Lease of a fake cluster, with optimistic locking; can be unreachable for some."""

    def __init__(self):
        self.lease, self.version, self.down = None, 0, set()

    def seen_by(self, name):
        return _View(self, name)


class _View:
    def __init__(self, shared, name):
        self.shared, self.name = shared, name

    async def read(self):
        self.check()
        return self.shared.lease

    async def create(self, lease):
        self.check()
        if self.shared.lease is not None:
            raise ConflictError("already exists")
        return self.store(lease)

    async def replace(self, lease):
        self.check()
        if lease["metadata"]["resourceVersion"] != str(self.shared.version):
            raise ConflictError("modified")
        return self.store(lease)

    def store(self, lease):
        self.shared.version += 1
        metadata = lease["metadata"] | {"resourceVersion": str(self.shared.version)}
        self.shared.lease = lease | {"metadata": metadata}
        return self.shared.lease

    def check(self):
        if self.name in self.shared.down:
            raise UnavailableError("no route")


def election(shared, name, changes=None):
    loop = asyncio.get_running_loop()
    return Election(
        shared.seen_by(name),
        name="darkroom-operator",
        namespace="darkroom",
        identity=name,
        clock=loop.time,
        on_change=(changes if changes is not None else []).append,
    )


def run_all(virtual, scenario):
    """Runs a scenario with a fresh Lease: `scenario(shared, start)`; start(name) begins a process."""

    async def main():
        shared, tasks = SharedLease(), {}

        def start(name, changes=None):
            one = election(shared, name, changes)
            tasks[name] = asyncio.create_task(one.run())
            return one, tasks[name]

        try:
            return await scenario(shared, start)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    return virtual(main())


def test_the_times_let_another_act_within_fifteen_seconds():
    # A standby sees the last renewal one look late, and that it is too old another look late.
    assert LEASE_SECONDS + 2 * WATCH_SECONDS <= 14
    assert RENEW_SECONDS < RENEW_DEADLINE_SECONDS < LEASE_SECONDS


def test_of_two_processes_one_leads(virtual):
    async def scenario(shared, start):
        (first, _), (second, _) = start("a"), start("b")
        await asyncio.sleep(100)
        return first.leads, second.leads, shared.lease["spec"]["holderIdentity"]

    first, second, holder = run_all(virtual, scenario)
    assert [first, second].count(True) == 1
    assert holder == ("a" if first else "b")


def test_a_leader_that_is_killed_is_replaced_within_fifteen_seconds(virtual):
    async def scenario(shared, start):
        first, task = start("a")
        await asyncio.sleep(5)
        second, _ = start("b")
        await asyncio.sleep(20)
        assert first.leads
        assert not second.leads
        task.cancel()
        began = asyncio.get_running_loop().time()
        while not second.leads:
            await asyncio.sleep(0.1)
        return asyncio.get_running_loop().time() - began

    assert run_all(virtual, scenario) <= 15


def test_a_leader_that_lets_go_is_replaced_within_two_seconds(virtual):
    async def scenario(shared, start):
        first, task = start("a")
        await asyncio.sleep(5)
        second, _ = start("b")
        await asyncio.sleep(20)
        task.cancel()
        await first.release()
        assert not first.leads
        began = asyncio.get_running_loop().time()
        while not second.leads:
            await asyncio.sleep(0.1)
        return asyncio.get_running_loop().time() - began

    assert run_all(virtual, scenario) <= 2


def test_a_renewal_that_is_under_way_does_not_keep_the_lease(virtual):
    async def scenario(shared, start):
        first, _ = start("a")
        await asyncio.sleep(5)
        # It has been carried out, but its answer is not there yet.
        lease = copy.deepcopy(shared.lease)
        await shared.seen_by("a").replace(lease)
        await first.release()
        return shared.lease["spec"]["holderIdentity"]

    assert run_all(virtual, scenario) == ""


def test_at_no_time_may_two_write_when_the_network_parts_them(virtual):
    async def scenario(shared, start):
        loop = asyncio.get_running_loop()
        first, _ = start("a")
        await asyncio.sleep(5)
        second, _ = start("b")
        await asyncio.sleep(10)
        last_write_ends, taken = 0.0, None
        shared.down.add("a")
        for _ in range(400):
            await asyncio.sleep(0.1)
            last_write_ends = max(
                last_write_ends, loop.time() + first.write_seconds() if first.leads else 0
            )
            if second.leads and taken is None:
                taken = loop.time()
            assert not (first.leads and second.leads)
        return last_write_ends, taken

    last_write_ends, taken = run_all(virtual, scenario)
    assert taken is not None
    assert last_write_ends <= taken


def test_a_short_outage_costs_nothing(virtual):
    changes = []

    async def scenario(shared, start):
        first, _ = start("a", changes)
        await asyncio.sleep(5)
        shared.down.add("a")
        await asyncio.sleep(6)
        shared.down.clear()
        await asyncio.sleep(30)
        return first.leads

    assert run_all(virtual, scenario)
    assert changes == [True]


def test_a_long_outage_ends_the_leadership_and_its_end_begins_it_again(virtual):
    changes = []

    async def scenario(shared, start):
        first, _ = start("a", changes)
        await asyncio.sleep(5)
        shared.down.add("a")
        await asyncio.sleep(12)
        assert not first.leads
        await asyncio.sleep(30)
        shared.down.clear()
        await asyncio.sleep(5)
        return first.leads

    assert run_all(virtual, scenario)
    assert changes == [True, False, True]


def test_a_clock_on_another_machine_does_not_matter(virtual):
    async def scenario(shared, start):
        shared.seen_by("x").store(
            {
                "metadata": {},
                "spec": {
                    "holderIdentity": "x",
                    "leaseDurationSeconds": 15,
                    "renewTime": NOW.replace(year=1999).isoformat(),
                },
            }
        )
        first, _ = start("a")
        await asyncio.sleep(14)
        early = first.leads
        await asyncio.sleep(3)
        return early, first.leads

    assert run_all(virtual, scenario) == (False, True)


def test_a_standby_may_not_write(virtual):
    async def scenario(shared, start):
        start("a")
        await asyncio.sleep(5)
        second, _ = start("b")
        await asyncio.sleep(5)
        return second.write_seconds()

    assert run_all(virtual, scenario) == 0


@pytest.mark.parametrize("error", [ConflictError, UnavailableError])
def test_a_lease_that_cannot_be_had_is_no_leadership(virtual, error):
    class Refusing:
        async def read(self):
            return None

        async def create(self, lease):
            raise error("no")

        replace = create

    async def main():
        loop = asyncio.get_running_loop()
        one = Election(Refusing(), name="l", namespace="n", identity="a", clock=loop.time)
        await one.turn()
        return one.leads

    assert virtual(main()) is False


def test_a_machine_that_slept_does_not_believe_that_it_still_leads(virtual):
    """Timers stand still meanwhile, and the renewal that is due comes later than the writes."""
    changes, slept = [], [0.0]

    async def main():
        loop = asyncio.get_running_loop()
        one = Election(
            SharedLease().seen_by("a"),
            name="l",
            namespace="n",
            identity="a",
            clock=lambda: loop.time() + slept[0],
            on_change=changes.append,
        )
        task = asyncio.create_task(one.run())
        await asyncio.sleep(5)
        before = one.leads
        slept[0] = 60.0
        woken = one.leads, one.write_seconds()
        await asyncio.sleep(5)
        task.cancel()
        return before, woken, one.leads

    assert virtual(main()) == (True, (False, 0.0), True)
    assert changes == [True]  # it was nobody else's meanwhile


def test_the_clock_of_the_election_counts_the_sleep_of_the_machine():
    """By this clock, which the machine's own suspension does not stop."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= boot_seconds() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_lease_that_is_refused_is_told_once_a_minute(virtual, caplog):
    class Refusing:
        async def read(self):
            raise RefusedError("leases is forbidden")

    async def main():
        loop = asyncio.get_running_loop()
        one = Election(Refusing(), name="l", namespace="n", identity="a", clock=loop.time)
        task = asyncio.create_task(one.run())
        await asyncio.sleep(119)
        task.cancel()

    virtual(main())
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "no access to the Lease n/l: leases is forbidden"
    assert second.startswith("no access to the Lease n/l for 60 s")


def test_an_apiserver_that_is_away_is_told_by_who_calls_it(virtual, caplog):
    unanswered = []

    class Slow:
        async def read(self):
            await asyncio.sleep(60)

    async def main():
        loop = asyncio.get_running_loop()
        one = Election(
            Slow(),
            name="l",
            namespace="n",
            identity="a",
            clock=loop.time,
            unanswered=unanswered.append,
        )
        await one.turn()

    virtual(main())
    assert unanswered == ["the Lease is not answered in 4.5 s"]
    assert caplog.records == []
