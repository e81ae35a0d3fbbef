"""What kopf's requests are answered, and what is made of it: a real client and a real server."""

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from darkroom_operator.cluster.outages import Outage, Outages
from darkroom_operator.cluster.session import new_session
from darkroom_operator.cluster.watch_answers import WatchAnswerError, WatchAnswers
from darkroom_operator.health import Health
from darkroom_operator.metrics import Metrics
from darkroom_operator.settings import Settings
from darkroom_operator.watches import BACKOFF_SECONDS, kopf_settings

JOBS = "/apis/darkroom.dev/v1alpha1/namespaces/a/personalizationjobs"
PODS = "/api/v1/pods?watch=true"
LOGIN = SimpleNamespace(headers=dict, ssl_context=None)


class Setup:
    def __init__(self):
        self.metrics, clock = Metrics(), lambda: 0.0
        self.outage, self.refusals = Outage("the API server", clock), Outages(clock)
        self.health = Health(Settings(), self.metrics, clock=clock, wall_clock=clock)
        self.answers = WatchAnswers(
            Settings(), health=self.health, outage=self.outage, refusals=self.refusals
        )

    def opened(self, plural):
        labels = {"resource": plural, "reason": "opened"}
        return self.metrics.registry.get_sample_value("darkroom_watch_restarts_total", labels)


def asked(path, status, why=None):
    """What kopf gets to see when a request is answered so: a status or an error; and the setup.

    `why` is why the call before it failed.
    """
    setup = Setup()
    setup.outage.note(why)

    async def answer(request):
        return web.json_response({}, status=status)

    async def main():
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        async with TestServer(app) as server, new_session(LOGIN, setup.answers) as session:
            try:
                async with session.get(server.make_url(path)) as response:
                    return response.status
            except aiohttp.ClientError as error:
                return type(error)

    return asyncio.run(main()), setup


def test_a_watch_that_is_answered_is_open_and_a_list_is_not_a_watch():
    found, setup = asked(PODS, 200)
    assert (found, setup.opened("pods")) == (200, 1.0)
    found, setup = asked(JOBS, 200)
    assert (found, setup.opened("personalizationjobs")) == (200, None)
    assert not setup.outage.ongoing
    assert not setup.refusals.ongoing


@pytest.mark.parametrize(
    ("path", "status", "seen", "refused", "away"),
    [
        (JOBS, 403, 403, True, False),
        (JOBS, 404, WatchAnswerError, True, False),
        (JOBS, 410, 410, False, False),
        (JOBS, 429, 429, False, False),
        (JOBS, 401, WatchAnswerError, False, True),
        (JOBS, 500, 500, False, True),
        ("/apis/ray.io/v1", 404, 404, False, False),
        ("/apis", 401, WatchAnswerError, False, True),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", 403, 403, False, False),
    ],
)
def test_what_would_end_kopf_looks_like_a_lost_connection(path, status, seen, refused, away):
    found, setup = asked(path, status)
    assert found == seen
    assert setup.refusals.ongoing is refused
    assert setup.outage.ongoing is away


def test_a_refusal_is_told_with_its_place(caplog):
    asked(JOBS, 403)
    asked(PODS, 403)
    assert caplog.messages == [
        "no access to personalizationjobs of namespace a: 403 Forbidden",
        "no access to pods: 403 Forbidden",
    ]


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_just_after_an_outage_is_none(status):
    _, setup = asked(JOBS, status, why="Connect call failed")
    assert not setup.refusals.ongoing


def test_a_server_that_is_not_there_is_away():
    setup = Setup()

    async def main():
        async with new_session(LOGIN, setup.answers) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get("http://127.0.0.1:9/api")

    asyncio.run(main())
    assert setup.outage.ongoing


def test_kopf_never_gives_up_and_begins_anew_with_each_request():
    backoffs = kopf_settings(Settings()).networking.error_backoffs
    for _ in range(2):
        waits = [wait for wait, _ in zip(backoffs, range(50), strict=False)]
        assert waits[: len(BACKOFF_SECONDS)] == list(BACKOFF_SECONDS)
        assert set(waits[len(BACKOFF_SECONDS) :]) == {BACKOFF_SECONDS[-1]}
