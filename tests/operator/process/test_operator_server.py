"""The progress server with a real HTTP client: who may report what, how much and how often."""

import asyncio
import json

import pytest
from aiohttp.test_utils import TestClient, TestServer

from darkroom_api.names import PROGRESS_AUDIENCE
from darkroom_api.report import RunPhase
from darkroom_operator import server
from darkroom_operator.cluster.errors import UnavailableError
from darkroom_operator.cluster.resources import JOBS, PODS
from darkroom_operator.cluster.token_review import KEPT_SECONDS, TokenReviewer
from darkroom_operator.health import Health
from darkroom_operator.memory.store import Store
from darkroom_operator.metrics import Metrics
from darkroom_operator.server import MAX_BODY_BYTES, ProgressServer
from darkroom_operator.settings import Settings
from darkroom_testing.in_memory.builders import KEY, MODEL, NOW, raw_spec, report
from darkroom_trainer.progress.snapshot import Phase

PATH = "/v1/jobs/default/rex/attempts/1/progress"
BODY = report().body.model_dump_json(by_alias=True)
GOOD = {"Authorization": "Bearer good"}


class Reviews:
    """The part of a cluster that knows tokens."""

    def __init__(self):
        self.asked, self.down = [], False

    async def create(self, resource, namespace, review, *, fenced):
        assert resource.plural == "tokenreviews"
        assert review["spec"]["audiences"] == [PROGRESS_AUDIENCE]
        token = review["spec"]["token"]
        self.asked.append(token)
        if self.down:
            raise UnavailableError("no answer")
        if token == "bad":
            return {"status": {"authenticated": False, "error": "expired"}}
        namespace, pod = {"other": ("elsewhere", "rex-1-worker"), "unknown": ("default", "x")}.get(
            token, ("default", "rex-1-worker")
        )
        audiences = [] if token == "apiserver" else [PROGRESS_AUDIENCE]
        user = {
            "username": f"system:serviceaccount:{namespace}:default",
            "extra": {"authentication.kubernetes.io/pod-name": [pod]},
        }
        return {"status": {"authenticated": True, "audiences": audiences, "user": user}}


class Setup:
    def __init__(self):
        self.store, self.metrics, self.reviews = Store(), Metrics(), Reviews()
        self.leads, self.time, self.told = True, 1000.0, []
        self.looked = asyncio.Event()
        self.health = Health(
            Settings(), self.metrics, clock=lambda: self.time, wall_clock=lambda: self.time
        )
        self.server = ProgressServer(
            store=self.store,
            reviewer=TokenReviewer(self.reviews, clock=lambda: self.time),
            health=self.health,
            metrics=self.metrics,
            leads=lambda: self.leads,
            told=self.told.append,
            worked_on=self.worked_on,
            clock=lambda: self.time,
        )
        labels = {"darkroom.dev/job": "rex", "darkroom.dev/attempt": "rex-1"}
        metadata = {"name": "rex-1-worker", "namespace": "default", "labels": labels}
        self.store.put(PODS, {"metadata": metadata | {"resourceVersion": "1"}})
        metadata = {"name": "rex", "namespace": "default", "uid": "u", "resourceVersion": "1"}
        self.store.put(JOBS, {"metadata": metadata, "spec": {}})

    async def worked_on(self, key):
        assert key == KEY
        self.looked.clear()
        await self.looked.wait()


def served(scenario):
    """Runs `scenario(client, setup)` against a real server."""

    async def main():
        setup = Setup()
        async with TestClient(TestServer(setup.server.application())) as client:
            return await scenario(client, setup)

    return asyncio.run(main())


def put(headers=GOOD, *, body=BODY, path=PATH, before=lambda setup: None):
    """The status of one report, and the setup."""

    async def scenario(client, setup):
        before(setup)
        async with client.put(path, data=body, headers=headers) as response:
            return response.status, setup

    return served(scenario)


def test_a_pod_reports_for_its_attempt():
    status, setup = put()
    assert status == 204
    assert setup.told == [KEY]
    kept = setup.store.observe(KEY).report
    assert (kept.attempt, kept.body.step) == ("rex-1", 10)


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({}, PATH, 401),
        ({"Authorization": "Basic x"}, PATH, 401),
        ({"Authorization": "Bearer bad"}, PATH, 401),
        ({"Authorization": "Bearer apiserver"}, PATH, 401),
        ({"Authorization": "Bearer other"}, PATH, 403),
        ({"Authorization": "Bearer unknown"}, PATH, 403),
        (GOOD, PATH.replace("attempts/1", "attempts/2"), 403),
        (GOOD, PATH.replace("jobs/default", "jobs/elsewhere"), 403),
        (GOOD, PATH.replace("attempts/1", "attempts/x"), 404),
    ],
)
def test_nobody_reports_for_somebody_else(headers, path, status):
    found, setup = put(headers, path=path)
    assert found == status
    assert setup.told == []


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "{}", json.dumps({"step": 1}), BODY.replace('"step":10', '"step":-1')]
)
def test_what_is_no_report_is_refused(body):
    assert put(body=body)[0] == 422


LAST = report(model=MODEL).body.model_dump_json(by_alias=True)


def see_job(setup, version, *, status=None, spec=None, **metadata):
    """The job as a watch or the answer to our own write brings it; its first attempt is open."""
    attempt = {"name": "rex-1", "startStep": 0, "startTime": "2026-01-01T00:00:00Z"}
    known = {"name": "rex", "namespace": "default", "uid": "u", "resourceVersion": version}
    raw = {"metadata": known | metadata, "spec": spec or {}}
    setup.store.put(JOBS, raw | {"status": {"attempts": [attempt], **(status or {})}})


def test_a_model_is_taken_when_it_is_in_the_status():
    """Its report is the last: if it were lost with this process, nobody would tell of it again."""

    async def scenario(client, setup):
        see_job(setup, "2")
        sent = asyncio.create_task(client.put(PATH, data=LAST, headers=GOOD))
        while not setup.told:
            await asyncio.sleep(0)
        setup.looked.set()  # a look that had begun before the report came
        done, _ = await asyncio.wait([sent], timeout=0.1)
        see_job(setup, "3", status={"model": MODEL.model_dump(by_alias=True)})
        setup.looked.set()
        return done, (await sent).status

    assert served(scenario) == (set(), 204)


def test_a_model_that_does_not_get_into_the_status_is_sent_again(monkeypatch):
    monkeypatch.setattr(server, "PUBLISH_SECONDS", 0.1)
    assert put(body=LAST, before=lambda setup: see_job(setup, "2"))[0] == 503


@pytest.mark.parametrize(
    ("policy", "going", "status"),
    [("Delete", True, 410), ("Delete", False, 204), ("Retain", True, 204)],
)
def test_who_trains_what_is_to_be_removed_is_told_so(policy, going, status):
    """Nothing need be saved then."""

    def deleted(setup):
        deletion = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {}
        see_job(setup, "2", spec=raw_spec(output__deletionPolicy=policy), **deletion)

    found, setup = put(before=deleted)
    assert found == status
    assert setup.told == ([KEY] if status == 204 else [])


def test_a_report_that_is_too_large_is_refused():
    assert put(body=" " * (MAX_BODY_BYTES + 1))[0] == 413


def test_a_standby_sends_the_sender_away():
    async def scenario(client, setup):
        setup.leads = False
        async with client.put(PATH, data=BODY, headers=GOOD) as response:
            return response.status, response.headers["Retry-After"], setup.reviews.asked

    assert served(scenario) == (503, "1", [])


def test_an_apiserver_that_does_not_answer_is_not_a_no():
    def down(setup):
        setup.reviews.down = True

    assert put(before=down)[0] == 503


def test_an_attempt_may_report_once_a_second():
    async def scenario(client, setup):
        found = []
        for wait in (0.0, 0.5, 0.5):
            setup.time += wait
            async with client.put(PATH, data=BODY, headers=GOOD) as response:
                found.append(response.status)
        return found

    assert served(scenario) == [204, 429, 204]


def test_a_token_is_looked_up_once_a_minute():
    async def scenario(client, setup):
        for wait in (0.0, 2.0, 2.0, KEPT_SECONDS):
            setup.time += wait
            async with client.put(PATH, data=BODY, headers=GOOD) as response:
                assert response.status == 204
        return len(setup.reviews.asked)

    assert served(scenario) == 2


def test_reports_are_counted_by_their_answer():
    _, setup = put({"Authorization": "Bearer bad"})
    value = setup.metrics.registry.get_sample_value(
        "darkroom_progress_reports_total", {"code": "401"}
    )
    assert value == 1


def test_healthz_fails_when_a_watch_is_silent_and_readyz_until_all_is_known():
    async def scenario(client, setup):
        found = []
        for path, change in (
            ("/healthz", lambda: None),
            ("/readyz", lambda: None),
            ("/readyz", lambda: setattr(setup.health, "synced", True)),
            ("/healthz", lambda: setattr(setup, "time", setup.time + 601)),
            (
                "/healthz",
                lambda: [setup.health.heard(one) for one in ("pods", "personalizationjobs")],
            ),
        ):
            change()
            async with client.get(path) as response:
                found.append((response.status, await response.text()))
        return found

    assert served(scenario) == [
        (200, "ok"),
        (503, "not synced yet"),
        (200, "leading"),
        (500, "the watch of personalizationjobs has been silent for more than 600 s"),
        (200, "ok"),
    ]


def test_ray_jobs_have_to_be_heard_only_when_kuberay_is_there():
    setup = Setup()
    for _ in range(2):
        setup.time += 500
        setup.health.heard("pods")
        setup.health.heard("personalizationjobs")
    assert setup.health.illness() is None
    setup.health.kuberay_found()
    setup.time += 601
    setup.health.heard("pods")
    setup.health.heard("personalizationjobs")
    assert "rayjobs" in setup.health.illness()


def test_work_that_does_not_end_is_an_illness():
    health = Health(
        Settings(),
        Metrics(),
        clock=lambda: 0.0,
        wall_clock=lambda: 0.0,
        stuck_seconds=lambda: 121.0,
    )
    assert "worked on" in health.illness()


def test_the_same_report_again_is_no_movement():
    store, later = Setup().store, NOW.replace(hour=13)
    store.report(KEY, "rex-1", report(10).body, NOW)
    store.report(KEY, "rex-1", report(10).body, later)
    assert store.observe(KEY).report.advanced == NOW
    store.report(KEY, "rex-1", report(11).body, later)
    assert store.observe(KEY).report.advanced == later


def test_the_phases_are_the_trainers():
    assert [phase.value for phase in RunPhase] == [phase.value for phase in Phase]
