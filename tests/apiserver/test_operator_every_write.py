"""Every call of every life cycle on a real apiserver: the operator is killed before and after it, and it
fails in every way. It ends as if nothing had: the same status, the same objects, no run twice.

The jobs of all cases live side by side, so each fault and each kill also happens to neighbours. One life
meets the kills in every run; all lives meet each fault and each kill in turn. The operator meets all faults
in memory in every run.
"""

import re
import time
from collections import Counter
from itertools import product

import pytest

from darkroom_testing.apiserver.apiserver_world import installation_fixture  # noqa: F401 - a fixture
from darkroom_testing.apiserver.life_cycles import LIVES, ends, fail_and_retry
from darkroom_testing.apiserver.life_runner import Actor, owner_of, play, settled, staged
from darkroom_testing.apiserver.proxy import Fault, How, proxied

FAULTS = {
    "409": Fault(How.ANSWER, 409),
    "410": Fault(How.ANSWER, 410),
    "422": Fault(How.ANSWER, 422),
    "429": Fault(How.ANSWER, 429),
    "500": Fault(How.ANSWER, 500),
    "500 although it was done": Fault(How.ANSWER, 500, sent=True),
    "timeout": Fault(How.HANG),
    "timeout although it was done": Fault(How.HANG, sent=True),
    "dropped": Fault(How.DROP),
    "dropped although it was done": Fault(How.DROP, sent=True),
}
KILLS = {"before": Fault(How.HANG), "after": Fault(How.HANG, sent=True)}


class Executioner:
    """Kills the operator when calls hang that are to be its last, as many as come together."""

    QUIET_SECONDS = 0.4
    LAST_SECONDS = 3.0
    """The operator itself gives up after 10 s: then the call would not have been its last."""

    def __init__(self, stage):
        self.stage, self.seen, self.first, self.newest = stage, 0, 0.0, 0.0

    def __call__(self):
        now, hanging = time.monotonic(), self.stage.proxy.hanging
        if hanging and not self.seen:
            self.first = now
        if hanging != self.seen:
            self.seen, self.newest = hanging, now
        quiet = now > self.newest + self.QUIET_SECONDS or now > self.first + self.LAST_SECONDS
        if hanging and quiet:
            self.stage.kill()
            self.seen = 0
        return self.stage.proxy.hanging > 0


def upgrading(stage, actors):
    """Upgrades the operator when all are ready who wait for it, and the others are over.

    What is just starting would be made anew by the new version: calls that come by chance.
    """
    waiting = [actor for actor, life in actors.items() if life.__name__ == "be_upgraded"]

    def tick():
        if waiting and all(actor.at_the_upgrade or actor.is_over for actor in actors):
            waiting.clear()
            stage.upgrade()

    return tick


def undisturbed(stage, chosen):
    """The calls of each life, each once, and its end."""
    actors = {Actor(stage, f"calm{index}"): life for index, life in enumerate(chosen)}
    lives = {actor: life(actor) for actor, life in actors.items()}
    play(stage, lives, upgrading(stage, actors))
    settled(stage)
    found = ends(stage)
    return {
        life: (
            list(filter(planned, dict.fromkeys(stage.plan.calls[actor.name]))),
            found[actor.name],
        )
        for actor, life in actors.items()
    }


def planned(call):
    """Not what a conflict makes necessary: it comes by chance, and no life depends on it."""
    return "GET personalizationjobs" not in call and "GET rayjobs" not in call


def struck(stage, faults, calm, tick):
    """Plays each life so that each of its calls fails once in each way; what each job is about.

    A job meets one fault at every `APART`th call, so that it has recovered before the next.
    """
    actors, about = {}, {}
    for life, fault, first in product(calm, faults, range(APART)):
        calls = calm[life][0][first::APART]
        actor = Actor(stage, f"job{len(actors)}")
        actors[actor], about[actor.name] = life, (life, fault, calls)
        stage.plan.strikes[actor.name] = dict.fromkeys(calls, faults[fault])
    upgrade = upgrading(stage, actors)

    def both():
        if not tick():
            upgrade()

    play(stage, {actor: life(actor) for actor, life in actors.items()}, both)
    settled(stage)
    return about


def assert_the_same_ends(stage, calm, about):
    """Each job ended as its life does; all faults took place; no RayJob was made twice."""
    assert not any(stage.plan.strikes.values()), {
        name: left for name, left in stage.plan.strikes.items() if left
    }
    found = ends(stage)
    for name, (life, fault, calls) in about.items():
        assert found[name] == calm[life][1], (life.__name__, fault, calls, stage.plan.calls[name])
    # Not by the audit log: the answer to a call of a process that was killed may be no 201 there.
    made = stage.mirrors["rayjobs"].uids
    twice = {owner_of(name) for name, uids in made.items() if len(uids) > 1}
    assert not twice, {name: (about.get(name), stage.plan.calls[name]) for name in twice}
    attempts = Counter(re.sub("-.*", "", name) for name in made)
    for name, (life, _, _) in about.items():
        assert attempts[name] == (2 if life.__name__ in TWICE else 1), name


APART = 3
"""Calls of a job from one fault to the next."""

TWICE = ("fail_and_retry", "suspend_and_resume", "be_upgraded")
"""Lives with two attempts."""


@pytest.fixture(name="stage")
def stage_fixture(api_cluster, installation):
    with proxied(api_cluster) as proxy, staged(installation, proxy) as stage:
        yield stage


def rows(faults, *marks):
    """A life of two attempts with all faults; all lives with each."""
    yield pytest.param([fail_and_retry], faults, id="one life", marks=marks)
    for name, fault in faults.items():
        yield pytest.param(LIVES, {name: fault}, id=name, marks=pytest.mark.exhaustive)


@pytest.mark.parametrize(("chosen", "faults"), rows(FAULTS, pytest.mark.exhaustive))
def test_an_error_at_any_call_changes_nothing(stage, chosen, faults):
    calm = undisturbed(stage, chosen)
    about = struck(stage, faults, calm, lambda: None)
    assert_the_same_ends(stage, calm, about)
    print(f"{counted(calm)} calls, {number_of_faults(about)} faults")


@pytest.mark.parametrize(("chosen", "kills"), rows(KILLS))
def test_a_kill_at_any_call_changes_nothing(stage, chosen, kills):
    calm = undisturbed(stage, chosen)
    stage.spare = stage.start()
    about = struck(stage, kills, calm, Executioner(stage))
    assert_the_same_ends(stage, calm, about)
    assert stage.ended_calls == number_of_faults(about)
    print(f"{counted(calm)} calls, {number_of_faults(about)} kills, of {stage.kills} processes")


def counted(calm):
    return sum(len(calls) for calls, _ in calm.values())


def number_of_faults(about):
    return sum(len(calls) for _, _, calls in about.values())
