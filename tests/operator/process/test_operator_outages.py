"""What fails for a while is told with few lines, however many calls, jobs and watches fail of it."""

import asyncio
import logging
import re

import pytest

from darkroom_operator.cluster.outages import QUIET_SECONDS, Outage, Outages, ToldAlready
from darkroom_testing.in_memory.fake_api import failure
from darkroom_testing.in_memory.whole_process import (
    WholeApi,
    fine,
    forbidden,
    keys,
    refused,
    running,
    silent,
)


class Clock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines(caplog):
    """What was logged, line by line."""
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_an_outage_is_told_when_it_begins_each_minute_and_when_it_ends(clock, lines):
    ended = []
    outage = Outage(
        "the API server",
        clock,
        quiet_seconds=QUIET_SECONDS,
        ended=lambda: ended.append(clock.seconds),
    )
    outage.note(None)
    for _ in range(126):
        outage.note("Connect call failed")
        assert outage.ongoing
        clock.seconds += 1
    clock.seconds += QUIET_SECONDS
    outage.note(None)
    outage.note(None)
    assert not outage.ongoing
    assert lines() == [
        "no access to the API server: Connect call failed",
        "no access to the API server for 60 s (61 failures): Connect call failed",
        "no access to the API server for 120 s (121 failures): Connect call failed",
        "access to the API server again, after 125 s",
    ]
    assert ended == [226.0 + QUIET_SECONDS]


def test_a_server_that_answers_every_other_call_has_one_outage(clock, lines):
    outage = Outage("the API server", clock, quiet_seconds=QUIET_SECONDS)
    for second in range(120):
        outage.note("500" if second % 2 else None)
        clock.seconds += 1
    assert len(lines()) == 2


def test_each_thing_by_a_name_has_its_own_outage(clock, lines):
    outages = Outages(clock)
    for name in ("pods of namespace a", "pods of namespace b"):
        for _ in range(300):
            outages.note(name, "403")
            clock.seconds += 1
    assert outages.ongoing
    outages.note("pods of namespace a", None)
    outages.note("pods of namespace c", None)
    assert outages.ongoing
    outages.note("pods of namespace b", None)
    assert not outages.ongoing
    assert lines() == [
        "no access to pods of namespace a: 403",
        "no access to pods of namespace b: 403",
        "access to pods of namespace a again, after 299 s",
        "access to pods of namespace b again, after 299 s",
    ]


@pytest.mark.parametrize(
    ("name", "text", "written"),
    [
        ("kopf._cogs.clients.watching", "Request attempt #1 failed; will retry: x", False),
        ("kopf._cogs.clients.watching", "Request attempt #1 failed; will retry: y", True),
        ("kopf._cogs.clients.watching", "Watcher for x has failed", True),
        ("darkroom_operator.cluster.election", "Request attempt: x", True),
    ],
)
def test_only_what_is_told_already_is_taken_out_of_the_log(name, text, written):
    record = logging.LogRecord(name, logging.ERROR, "", 0, text, (), None)
    assert ToldAlready(lambda line: line.endswith("x")).filter(record) is written


@pytest.mark.parametrize(
    ("disturbed", "error", "told"),
    [
        (fine, "ClientConnectorError()", False),
        (fine, "APIForbiddenError()", False),
        (refused, "ClientConnectorError()", True),
        (forbidden, "APIForbiddenError()", True),
        (forbidden, "WatchAnswerError()", True),
        (forbidden, "TimeoutError()", False),
    ],
)
def test_kopfs_lines_about_requests_are_told_while_their_cause_is(virtual, disturbed, error, told):
    async def main():
        api = WholeApi()
        async with running(api, namespaces=("a", "b"), resync_seconds=30) as whole:
            api.disturb = disturbed
            await asyncio.sleep(31)
            return whole.process.tells_of(f"Request attempt #1 failed: GET /x -> {error}")

    assert virtual(main()) is told


OUTAGES = {
    "refused": refused,
    "silent": silent,
    "slow": lambda method, path: 6.0,
    "500": lambda method, path: failure(500, "etcdserver: request timed out"),
    "401": lambda method, path: failure(401, "Unauthorized"),
}


@pytest.mark.parametrize("kind", OUTAGES)
def test_five_minutes_without_the_api_server_are_a_line_a_minute_whatever_waits(
    virtual, caplog, kind
):
    async def main():
        api = WholeApi()
        async with running(api, resync_seconds=20) as whole:
            for key in keys(100):
                whole.tell(api.add_job(key))
            await asyncio.sleep(20)
            caplog.clear()
            api.disturb = OUTAGES[kind]
            for key in keys(100):  # each has something to be written about
                whole.process.queue.add(key)
            await asyncio.sleep(300)
            lost = whole.process.election.leads
            api.disturb = fine
            await asyncio.sleep(30)
            return lost, whole.process.election.leads, len(api.all("rayjobs"))

    with caplog.at_level(logging.INFO):
        assert virtual(main()) == (False, True, 100)
    lines = [record.getMessage() for record in caplog.records]
    about_leading = [line for line in lines if line in ("lease: leading", "lease: not leading")]
    assert about_leading == ["lease: not leading", "lease: leading"]
    lines = [line for line in lines if line not in about_leading]
    assert len(lines) <= 7
    assert lines[0].startswith("no access to the API server: ")
    assert re.fullmatch(r"access to the API server again, after (29|30)\d s", lines[-1])
    assert all("the API server" in line for line in lines)


def test_an_outage_is_no_illness_and_watches_have_time_after_it(virtual):
    """A restart would cure nothing, and kubelet waits longer before each."""

    async def main():
        api = WholeApi()
        async with running(api, watch_silence_seconds=60) as whole:
            health, found = whole.process.health, []
            api.disturb = refused
            await asyncio.sleep(600)
            found.append(health.illness())
            api.disturb = fine
            await asyncio.sleep(20)
            found.append(health.illness())
            await asyncio.sleep(60)
            found.append(health.illness())
            return found

    during, after, later = virtual(main())
    assert (during, after) == (None, None)
    assert "silent for more than 60 s" in later


def test_what_is_refused_just_after_an_outage_is_told_to_nobody(virtual, caplog):
    """An apiserver that has just started has not read its roles yet: that is no refusal of a launch."""

    async def main():
        api = WholeApi()
        async with running(api) as whole:
            api.disturb = refused
            await asyncio.sleep(5)
            key = keys(1)[0]
            whole.tell(api.add_job(key))
            api.disturb = lambda method, path: failure(403, "is forbidden")
            await asyncio.sleep(2)
            written = api.objects["personalizationjobs", key.namespace, key.name]["status"]
            api.disturb = fine
            await asyncio.sleep(30)
            return written, len(api.all("rayjobs"))

    with caplog.at_level(logging.INFO):
        assert virtual(main()) == ({}, 1)
    assert [line for line in caplog.messages if "forbidden" in line] == []
    assert [line for line in caplog.messages if "access to" in line] == [
        "no access to the API server: Connect call failed",
        "access to the API server again, after 2 s",
    ]


def test_what_is_refused_for_good_is_told_even_after_an_outage(virtual, caplog):
    async def main():
        api = WholeApi()
        async with running(api, namespaces=("a", "b"), resync_seconds=30):
            api.disturb = refused
            await asyncio.sleep(31)
            api.disturb = forbidden
            await asyncio.sleep(60)

    virtual(main())
    told = [line for line in caplog.messages if "of namespace b" in line]
    assert len(told) == 3
