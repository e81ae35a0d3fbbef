"""Watches that bring news late, twice, in the wrong order or never: each life ends as if they had not.

The operator's watches go through a proxy; nothing else is disturbed.
"""

import json
import time

import pytest

from darkroom_testing.apiserver.apiserver_world import installation_fixture  # noqa: F401 - a fixture
from darkroom_testing.apiserver.life_cycles import LIVES, ends
from darkroom_testing.apiserver.life_runner import Actor, Stage, play, settled, staged
from darkroom_testing.apiserver.proxy import proxied
from darkroom_testing.cluster.cluster import wait_for

WATCHED = ("personalizationjobs", "rayjobs", "pods")
COMPARING = {"DARKROOM_RESYNC_SECONDS": "1"}
"""Where watches miss something, only a full comparison finds it."""
EXPIRED = {
    "type": "ERROR",
    "object": {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "too old resource version",
        "reason": "Expired",
        "code": 410,
    },
}


class Often:
    """Does something to all watches now and then."""

    def __init__(self, stage, *works, seconds=0.5):
        self.stage, self.works, self.seconds = stage, works, seconds
        self.next, self.turns, self.met = 0.0, 0, 0

    def __call__(self):
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.seconds
        work = self.works[self.turns % len(self.works)]
        self.turns += 1
        self.met += sum(self.stage.proxy.do(work, plural) for plural in WATCHED)


def hold(stream):
    stream.held = []


def nothing_is_said(stage):
    """No event ever arrives."""
    stage.proxy.drops = lambda plural, event: True
    return Often(stage, lambda stream: None)


def all_is_said_twice(stage):
    def twice(plural, event):
        line = json.dumps(event).encode() + b"\n"
        for stream in tuple(stage.proxy.streams):
            if stream.plural == plural:
                stage.proxy.loop.create_task(stream.say(line))
        return False

    stage.proxy.drops = twice
    return Often(stage, lambda stream: None)


def all_comes_late_and_the_newest_first(stage):
    return Often(stage, hold, lambda stream: stream.release())


def connections_break(stage):
    return Often(stage, lambda stream: stream.cut())


def versions_expire(stage):
    line = json.dumps(EXPIRED).encode() + b"\n"
    return Often(stage, lambda stream: stream.say(line))


DISTURBANCES = (
    nothing_is_said,
    all_is_said_twice,
    all_comes_late_and_the_newest_first,
    connections_break,
    versions_expire,
)
LIVED = tuple(life for life in LIVES if life.__name__ not in ("be_upgraded", "report_and_publish"))
"""A report is refused while its pod is not known: the trainer would send it again."""


@pytest.fixture(name="stage")
def stage_fixture(api_cluster, installation):
    with proxied(api_cluster) as proxy, staged(installation, proxy, COMPARING) as stage:
        yield stage


def played(stage: Stage, name, tick):
    actors = {Actor(stage, f"{name}{index}"): life for index, life in enumerate(LIVED)}
    play(stage, {actor: life(actor) for actor, life in actors.items()}, tick)
    settled(stage)
    found = ends(stage)
    return {life.__name__: found[actor.name] for actor, life in actors.items()}


@pytest.mark.exhaustive
def test_what_watches_bring_changes_no_end(stage):
    calm = played(stage, "calm", lambda: None)
    for number, disturbance in enumerate(DISTURBANCES):
        often = disturbance(stage)
        assert played(stage, f"job{number}x", often) == calm, disturbance.__name__
        assert often.met > 0, disturbance.__name__
        stage.proxy.drops = lambda plural, event: False
        for plural in WATCHED:
            stage.proxy.do(lambda stream: stream.cut(), plural)
    assert stage.leader.healthy()


def test_a_watch_that_is_cut_or_expires_is_opened_again(stage):
    """Without the help of comparisons: they come once in five minutes."""
    stage.restart(DARKROOM_RESYNC_SECONDS="300")
    for name, work in (("cut", connections_break(stage)), ("expired", versions_expire(stage))):
        to_each_watch(stage, lambda stream: None)
        actor = Actor(stage, name)
        play(stage, {actor: LIVED[0](actor)}, work)
        assert work.met > 0


def to_each_watch(stage, work):
    """Does something to the watches of an operator that was just started, when all of them are open."""
    for plural in WATCHED:
        # Those of the operator before are still there for a moment.
        wait_for(lambda plural=plural: stage.proxy.do(work, plural) == 1, f"watch of {plural}")


def mute(stream):
    stream.muted = True


@pytest.mark.exhaustive
def test_a_watch_that_falls_silent_is_noticed_and_a_restart_cures_it(stage):
    """Its connection stands. Until then comparisons find what it misses."""
    stage.restart(DARKROOM_WATCH_SILENCE_SECONDS="8")
    to_each_watch(stage, mute)
    actor = Actor(stage, "mute")
    play(stage, {actor: LIVED[0](actor)}, lambda: None)
    wait_for(lambda: not stage.leader.healthy(), "bad health")
    stage.restart(DARKROOM_RESYNC_SECONDS="300", DARKROOM_WATCH_SILENCE_SECONDS="60")
    assert stage.leader.healthy()
    actor = Actor(stage, "cured")
    play(stage, {actor: LIVED[0](actor)}, lambda: None)
