"""Whatever goes wrong, in any order: one resync interval later each job that is not over was looked at.

A whole process in virtual time. No job is told of again: nobody annotates it, and no watch repeats it.
"""

import asyncio
from contextlib import ExitStack
from contextvars import ContextVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom_operator.cluster.election import LEASE_SECONDS
from darkroom_operator.decisions.observed import Key
from darkroom_operator.reconciler import Reconciler
from darkroom_operator.recorder import Recorder
from darkroom_testing.in_memory.fake_api import Answer, failure
from darkroom_testing.in_memory.whole_process import (
    NAMESPACES,
    WholeApi,
    fine,
    forbidden,
    keys,
    refused,
    running,
    silent,
)

LOOKED_AT = ContextVar("LOOKED_AT")
RESYNC_SECONDS = 300


class Looks:
    """When each job was last looked at with success."""

    def __init__(self, loop):
        self.times, self._loop = {}, loop

    def __enter__(self):
        original, looks = Reconciler.reconcile, self

        async def reconcile(self, key):
            LOOKED_AT.set(key)
            return await original(self, key)

        def reconciled(self, outcome, seconds):
            if outcome == "ok":
                looks.times[LOOKED_AT.get()] = looks._loop.time()

        self._stack = ExitStack()
        self._stack.enter_context(patch.object(Reconciler, "reconcile", reconcile))
        self._stack.enter_context(patch.object(Recorder, "reconciled", reconciled))
        return self

    def __exit__(self, *_):
        self._stack.close()


def bug(*_):
    raise ZeroDivisionError("a bug")


def writes(answer):
    return lambda method, path: answer if method in ("PATCH", "POST") else None


def late_renewals(method, path):
    """So late that writes are fenced meanwhile, not so late that the lead is lost."""
    return 4.0 if method == "PUT" else None


CALLS = {
    "late renewals": late_renewals,
    "away": refused,
    "silent": silent,
    "500": writes(failure(500, "etcdserver: request timed out")),
    "429": writes(Answer(429, "slow down", {"Retry-After": "2"})),
    "409": writes(failure(409, "the object has been modified", name="job")),
    "a namespace is refused": forbidden,
}
"""Faults by what becomes of calls meanwhile."""

FAULTS = (*CALLS, "a bug", "another leads", "stopped", "the machine sleeps", "nothing")


async def suffer(whole, fault, seconds):
    """A fault for some time, and its end."""
    if fault in CALLS:
        whole.api.disturb = CALLS[fault]
        await asyncio.sleep(seconds)
        whole.api.disturb = fine
    elif fault == "a bug":
        with patch("darkroom_operator.reconciler.decide", bug):
            await asyncio.sleep(seconds)
    elif fault == "another leads":
        for _ in range(seconds):
            whole.api.usurp()
            await asyncio.sleep(1)
        whole.api.let_go()
    elif fault == "stopped":  # SIGSTOP: timers are late when it goes on
        whole.loop.seconds += seconds
    elif fault == "the machine sleeps":
        whole.slept += seconds
    else:
        await asyncio.sleep(seconds)


steps = st.tuples(
    st.sampled_from(FAULTS),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(NAMESPACES),
)


async def forgotten(history):
    """Jobs that were not looked at after what happened and one resync interval."""
    api, loop = WholeApi(), asyncio.get_running_loop()
    with Looks(loop) as looks:
        async with running(api, namespaces=NAMESPACES, resync_seconds=RESYNC_SECONDS) as whole:
            made = []
            for number, (fault, seconds, told, namespace) in enumerate(history):
                made.append(Key(namespace, f"job-{number}"))
                loop.call_later(seconds / 2, create, whole, made[-1], told)
                await suffer(whole, fault, seconds)
                await asyncio.sleep(seconds % 7)
            calm = loop.time()
            await asyncio.sleep(RESYNC_SECONDS + 2 * LEASE_SECONDS)
    return [key for key in made if looks.times.get(key, -1.0) < calm]


def create(whole, key, told):
    raw = whole.api.add_job(key)
    if told:
        whole.tell(raw)


@pytest.mark.parametrize("histories", [25, pytest.param(250, marks=pytest.mark.exhaustive)])
def test_after_any_fault_and_one_resync_each_job_was_looked_at(virtual, histories):
    @settings(
        max_examples=histories,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(history=st.lists(steps, min_size=1, max_size=6))
    def suffered(history):
        assert virtual(forgotten(history)) == []

    suffered()


def test_a_job_that_comes_while_a_renewal_is_late_is_dealt_with_when_it_has_come(virtual):
    """Its watch told of it once, and the next comparison is far away."""

    async def main():
        api = WholeApi()
        async with running(api) as whole:
            api.disturb = late_renewals
            fenced = lambda: whole.sample(  # noqa: E731
                "darkroom_reconcile_total",
                kind="PersonalizationJob",
                handler="decide",
                outcome="fenced",
            )
            made = []
            while not fenced():
                made.append(Key("a", f"job-{len(made)}"))
                whole.tell(api.add_job(made[-1]))
                await asyncio.sleep(0.5)
            assert whole.process.election.leads is False
            assert whole.sample("darkroom_operator_leader") == 1
            api.disturb = fine
            await asyncio.sleep(10)
            runs = {found["metadata"]["name"] for found in api.all("rayjobs")}
            return runs, {f"{key.name}-1" for key in made}

    runs, wanted = virtual(main())
    assert runs == wanted


def test_settled_jobs_cost_no_look_and_no_write_however_often_they_are_compared(virtual):
    async def main():
        api, loop = WholeApi(), asyncio.get_running_loop()
        for key in keys(20):
            api.add_job(key, over=True)
        with Looks(loop) as looks:
            async with running(api, resync_seconds=300) as whole:
                await asyncio.sleep(10)
                began, before = loop.time(), api.calls.copy()
                await asyncio.sleep(1000)
                compared = whole.sample(
                    "darkroom_api_requests_total",
                    verb="list",
                    resource="personalizationjobs",
                    code="200",
                )
        written = [call for call in api.calls[len(before) :] if call[0] not in ("GET", "PUT")]
        return compared, written, [key for key, time in looks.times.items() if time > began]

    compared, written, looked = virtual(main())
    assert compared == 4
    assert written == []
    assert looked == []


def test_an_over_job_that_has_a_time_to_live_or_is_deleted_is_not_settled(virtual):
    async def main():
        api, loop = WholeApi(), asyncio.get_running_loop()
        short, gone, settled = keys(3)
        api.add_job(short, over=True, runPolicy__ttlSecondsAfterFinished=100_000)
        raw = api.add_job(gone, over=True)
        raw["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}
        api.store(("personalizationjobs", gone.namespace, gone.name), raw)
        api.add_job(settled, over=True)
        with Looks(loop) as looks:
            async with running(api, resync_seconds=300):
                await asyncio.sleep(400)
        return {key for key, time in looks.times.items() if time > 10}, {short, gone}

    found, wanted = virtual(main())
    assert found == wanted
