"""Comparisons with the cluster: what can't be listed keeps nothing else from being compared.

A whole process in virtual time, without watches: what it knows it has from lists.
"""

import asyncio

import pytest

from darkroom_operator.cluster.resources import PODS
from darkroom_operator.decisions.observed import Key
from darkroom_operator.memory.resync import REFUSED_SECONDS, RestoredError
from darkroom_testing.in_memory.fake_api import failure
from darkroom_testing.in_memory.whole_process import (
    NAMESPACES,
    Whole,
    WholeApi,
    fine,
    keys,
    running,
)

IN_B = Key("b", "other")
FORBIDDEN = failure(403, "pods is forbidden: User operator cannot list them")


def refusing(*parts, answer=FORBIDDEN):
    """GETs whose path has one of the parts are answered so."""
    return lambda method, path: (
        answer if method == "GET" and any(part in path for part in parts) else None
    )


def launched(api):
    return {found["metadata"]["name"] for found in api.all("rayjobs")}


def missed(whole, plural="personalizationjobs"):
    return whole.sample("darkroom_watch_missed_total", resource=plural)


@pytest.mark.parametrize(
    "answer", [FORBIDDEN, failure(500, "etcdserver: request timed out"), failure(404, "not found")]
)
def test_a_list_that_fails_keeps_no_other_namespace_from_being_compared(virtual, answer):
    async def main():
        api = WholeApi()
        async with running(api, namespaces=NAMESPACES, resync_seconds=30):
            api.disturb = refusing("/namespaces/a/", answer=answer)
            await asyncio.sleep(31)
            api.add_job(IN_B)
            await asyncio.sleep(61)
            return launched(api)

    assert virtual(main()) == {"other-1"}


def test_a_namespace_that_is_refused_at_the_start_keeps_none_from_work_and_is_found_later(virtual):
    async def main():
        api = WholeApi()
        api.add_job(IN_B)
        api.add_job(keys(1)[0])
        api.disturb = refusing("/namespaces/a/")
        async with running(api, namespaces=NAMESPACES) as whole:
            await asyncio.sleep(60)
            before = launched(api), whole.process.health.synced
            api.disturb = fine
            await asyncio.sleep(REFUSED_SECONDS + 5)
            return before, launched(api), missed(whole)

    before, after, counted = virtual(main())
    assert before == ({"other-1"}, True)
    assert after == {"other-1", "job-0-1"}
    assert counted == 0  # no watch has missed what it was not allowed to see


def test_an_operator_of_the_whole_cluster_that_may_list_nothing_is_not_ready(virtual):
    async def main():
        api = WholeApi()
        api.disturb = refusing("/pods")
        whole = Whole(api, asyncio.get_running_loop())
        task = asyncio.create_task(whole.process.run())
        await asyncio.sleep(60)
        before = whole.process.health.synced
        api.disturb = fine
        await asyncio.sleep(10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return before, whole.process.health.synced

    assert virtual(main()) == (False, True)


def test_a_job_whose_runs_may_not_be_listed_is_left_alone_until_they_may(virtual):
    """Its run is there. To an operator that can't see it, it would look like one that was lost."""

    async def main():
        api = WholeApi()
        (key,) = keys(1)
        api.add_job(key)
        async with running(api):
            await asyncio.sleep(5)
        before = api.objects["personalizationjobs", *key_of(key)]
        assert launched(api) == {"job-0-1"}
        del api.objects["rayjobs", key.namespace, "job-0-1"]  # as good as not seen
        api.disturb = refusing("/namespaces/a/rayjobs")
        async with running(api, namespaces=NAMESPACES) as whole:
            whole.tell(before)  # its watch works
            await asyncio.sleep(100)
            left_alone = launched(api)
            api.disturb = fine
            await asyncio.sleep(REFUSED_SECONDS + 5)
            return left_alone, launched(api)

    assert virtual(main()) == (set(), {"job-0-1"})


def key_of(key):
    return key.namespace, key.name


def test_what_is_refused_is_told_once_when_it_begins_and_once_when_it_ends(virtual, caplog):
    async def main():
        api = WholeApi()
        async with running(api, namespaces=NAMESPACES, resync_seconds=30):
            caplog.clear()
            api.disturb = refusing("/namespaces/a/pods")
            await asyncio.sleep(600)
            api.disturb = fine
            await asyncio.sleep(60)

    with caplog.at_level("INFO"):
        virtual(main())
    told = [record.getMessage() for record in caplog.records if "access to" in record.getMessage()]
    assert len(told) == 2
    assert told[0].startswith("no access to pods of namespace a: pods is forbidden")
    assert told[1].startswith("access to pods of namespace a again, after 5")


def test_what_watches_missed_is_counted_but_not_what_a_first_list_brings(virtual):
    async def main():
        api = WholeApi()
        api.add_job(keys(1)[0])
        async with running(api, resync_seconds=30) as whole:
            first = missed(whole)
            api.add_job(Key("a", "unheard"))
            await asyncio.sleep(30)
            after = missed(whole)
            await asyncio.sleep(60)
            return first, after, missed(whole)

    assert virtual(main()) == (0, 1, 1)


def test_a_cluster_that_was_restored_from_a_backup_ends_the_process(virtual):
    """What it knows is newer than all that is to come, and so are the places its watches go on from."""

    async def main():
        api = WholeApi()
        whole = Whole(api, asyncio.get_running_loop(), resync_seconds=30)
        task = asyncio.create_task(whole.process.run())
        await asyncio.sleep(5)
        api.version = 7
        await asyncio.sleep(31)
        return task.exception()

    ended = virtual(main())
    assert ended.subgroup(RestoredError) is not None
    assert "restored from a backup" in str(ended.exceptions[0])


def test_a_list_of_many_pages_is_no_restored_cluster(virtual):
    """All pages of a list have its version, and later lists a later one."""

    async def main():
        api = WholeApi()
        async with running(api, resync_seconds=30) as whole:
            for number in range(3):
                api.add_job(Key("a", f"more-{number}"))
                await asyncio.sleep(30)
            return whole.process.store.jobs(), whole.sample(
                "darkroom_api_requests_total", verb="list", resource=PODS.plural, code="200"
            )

    jobs, lists = virtual(main())
    assert len(jobs) == 3
    assert lists == 4
