"""The queue in virtual time: once each, never twice at once, failures later and later."""

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise

from darkroom_operator.workqueue import (
    FIRST_DELAY_SECONDS,
    LAST_DELAY_SECONDS,
    RetryError,
    WorkQueue,
)


@asynccontextmanager
async def working(handle, *, workers=4, opened=True):
    queue = WorkQueue(handle, workers=workers, chance=lambda: 0.0)
    if opened:
        queue.open()
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def now():
    return asyncio.get_running_loop().time()


def test_what_is_added_many_times_while_it_waits_is_done_once(virtual):
    done = []

    async def handle(key):
        done.append(key)

    async def main():
        async with working(handle, opened=False) as queue:
            for key in "abacab":
                queue.add(key)
            queue.open()
            await asyncio.sleep(1)

    virtual(main())
    assert done == ["a", "b", "c"]


def test_what_is_added_while_it_is_worked_on_comes_again_and_never_beside_itself(virtual):
    running, most, done = {}, {}, []

    async def handle(key):
        running[key] = running.get(key, 0) + 1
        most[key] = max(most.get(key, 0), running[key])
        await asyncio.sleep(1)
        running[key] -= 1
        done.append((key, now()))

    async def main():
        async with working(handle) as queue:
            queue.add("a")
            await asyncio.sleep(0.5)
            queue.add("a")
            queue.add("a")
            await asyncio.sleep(5)

    virtual(main())
    assert done == [("a", 1.0), ("a", 2.0)]
    assert most == {"a": 1}


def test_no_more_than_so_many_are_worked_on_at_once(virtual):
    running, most = 0, 0

    async def handle(key):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    async def main():
        async with working(handle, workers=3) as queue:
            for key in range(20):
                queue.add(key)
            await asyncio.sleep(20)
            assert len(queue) == 0

    virtual(main())
    assert most == 3


def test_failures_are_tried_again_later_and_later_up_to_a_limit(virtual):
    tries = []

    async def handle(key):
        tries.append(now())
        raise RetryError("not yet")

    async def main():
        async with working(handle) as queue:
            queue.add("a")
            await asyncio.sleep(1000)

    virtual(main())
    waits = [round(later - earlier, 3) for earlier, later in pairwise(tries)]
    assert waits[:4] == [FIRST_DELAY_SECONDS * 2**n for n in range(4)]
    assert waits[-1] == LAST_DELAY_SECONDS


def test_a_success_forgets_the_failures(virtual):
    tries = []

    async def handle(key):
        tries.append(now())
        if len(tries) in (1, 2, 4):
            raise RetryError("not yet")

    async def main():
        async with working(handle) as queue:
            queue.add("a")
            await asyncio.sleep(10)
            queue.add("a")
            await asyncio.sleep(10)

    virtual(main())
    assert round(tries[4] - tries[3], 3) == FIRST_DELAY_SECONDS


def test_a_bug_in_one_job_stops_no_other(virtual, caplog):
    done = []

    async def handle(key):
        if key == "bad":
            raise ZeroDivisionError("a bug")
        done.append(key)

    async def main():
        async with working(handle, workers=1) as queue:
            for key in ("bad", "a", "b"):
                queue.add(key)
            await asyncio.sleep(1)

    virtual(main())
    assert done == ["a", "b"]
    assert "a bug" in caplog.text


def test_the_answer_says_when_to_come_again_and_news_comes_first(virtual):
    tries = []

    async def handle(key):
        tries.append(now())
        return 60.0

    async def main():
        async with working(handle) as queue:
            queue.add("a")
            await asyncio.sleep(30)
            queue.add("a")
            await asyncio.sleep(70)

    virtual(main())
    assert tries == [0.0, 30.0, 90.0]


def test_the_earlier_of_two_appointments_holds(virtual):
    tries = []

    async def handle(key):
        tries.append(now())

    async def main():
        async with working(handle) as queue:
            queue.add_later("a", 10)
            queue.add_later("a", 5)
            queue.add_later("a", 20)
            await asyncio.sleep(100)

    virtual(main())
    assert tries == [5.0]


def test_a_closed_queue_begins_nothing_and_ends_what_is_under_way(virtual):
    done = []

    async def handle(key):
        await asyncio.sleep(1)
        done.append(key)

    async def main():
        async with working(handle, workers=1) as queue:
            queue.add("a")
            queue.add("b")
            await asyncio.sleep(0.5)
            assert queue.in_flight() == 1
            assert queue.oldest_seconds() == 0.5
            queue.close()
            await queue.drained()
            assert done == ["a"]
            await asyncio.sleep(10)
            assert done == ["a"]
            queue.open()
            await asyncio.sleep(2)

    virtual(main())
    assert done == ["a", "b"]


def test_jitter_shortens_a_wait_by_a_fifth_at_most(virtual):
    tries = []

    async def handle(key):
        tries.append(now())
        raise RetryError("not yet")

    async def main():
        queue = WorkQueue(handle, workers=1, chance=lambda: 1.0)
        queue.open()
        task = asyncio.create_task(queue.run())
        queue.add("a")
        await asyncio.sleep(0.09)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual(main())
    assert len(tries) == 2


def test_a_failure_that_is_told_for_all_is_not_told_for_each(virtual, caplog):
    async def handle(key):
        raise RetryError(f"{key} failed")

    async def main():
        queue = WorkQueue(handle, workers=1, told=lambda error: str(error).startswith("a"))
        queue.open()
        task = asyncio.create_task(queue.run())
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual(main())
    assert "b failed" in caplog.text
    assert "a failed" not in caplog.text


def test_who_waits_for_a_look_is_woken_when_it_has_ended_well_or_badly(virtual):
    woken = []

    async def handle(key):
        await asyncio.sleep(1)
        if key == "bad":
            raise RetryError("not yet")

    async def wait(queue, key):
        await queue.worked_on(key)
        woken.append((key, now()))

    async def main():
        async with working(handle) as queue:
            waiting = [asyncio.create_task(wait(queue, key)) for key in ("a", "a", "bad", "never")]
            await asyncio.sleep(1)
            queue.add("a")
            queue.add("bad")
            await asyncio.sleep(5)
            for task in waiting:
                task.cancel()

    virtual(main())
    assert sorted(woken) == [("a", 2.0), ("a", 2.0), ("bad", 2.0)]
