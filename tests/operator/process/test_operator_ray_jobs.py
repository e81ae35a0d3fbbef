"""The launcher for an existing Ray cluster, against a server that speaks Ray's Jobs API."""

import asyncio
import json
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from darkroom_api.names import JOB_ENV
from darkroom_operator.cluster.errors import RefusedError, UnavailableError
from darkroom_operator.decisions import attempts
from darkroom_operator.decisions.actions import Stop
from darkroom_operator.decisions.observed import RunState
from darkroom_operator.launch.ray_jobs import RayJobsLauncher
from darkroom_testing.in_memory.builders import NOW, SETTINGS, job

NAME = "default.rex-1.11111111"


class Dashboard:
    """Ray's Jobs API, as far as it is asked."""

    def __init__(self):
        self.jobs, self.headers, self.down = {}, [], False

    def application(self):
        app = web.Application()
        app.router.add_post("/api/jobs/", self.submit)
        app.router.add_get("/api/jobs/{name}", self.look)
        app.router.add_post("/api/jobs/{name}/stop", self.stop)
        return app

    async def submit(self, request):
        self.headers.append(request.headers.get("Authorization"))
        if self.down:
            return web.Response(status=503)
        body = await request.json()
        name = body["submission_id"]
        if name in self.jobs:
            text = f"Traceback ...\nValueError: Job with submission_id {name} already exists."
            return web.Response(status=500, text=text)
        if "bad" in body["entrypoint"]:
            return web.Response(status=400, text="bad request")
        self.jobs[name] = body | {"status": "PENDING", "message": "queued"}
        return web.json_response({"submission_id": name, "job_id": name})

    async def look(self, request):
        found = self.jobs.get(request.match_info["name"])
        return web.json_response(found) if found else web.Response(status=404, text="not found")

    async def stop(self, request):
        self.jobs[request.match_info["name"]]["status"] = "STOPPED"
        return web.json_response({"stopped": True})


def against(scenario, tmp_path):
    """Runs `scenario(launcher, dashboard)`."""
    token = tmp_path / "token"
    token.write_text("s3cret\n")

    async def main():
        dashboard = Dashboard()
        async with (
            TestServer(dashboard.application()) as server,
            aiohttp.ClientSession() as session,
        ):
            settings = replace(
                SETTINGS, ray_address=str(server.make_url("/")), ray_token_file=str(token)
            )
            return await scenario(RayJobsLauncher(session, settings), dashboard)

    return asyncio.run(main())


def opened(known):
    status = attempts.opened(known.status, "rex-1", known.spec.scale, NOW)
    return replace(known, status=status)


def test_an_attempt_is_submitted_once_with_its_job_and_the_token_of_the_file(tmp_path):
    async def scenario(launcher, dashboard):
        for _ in range(2):
            await launcher.launch(job(), job().spec, "rex-1")
        return dashboard

    dashboard = against(scenario, tmp_path)
    assert list(dashboard.jobs) == [NAME]
    variables = dashboard.jobs[NAME]["runtime_env"]["env_vars"]
    assert json.loads(variables[JOB_ENV])["metadata"]["name"] == "rex"
    assert dashboard.headers == ["Bearer s3cret"] * 2


def test_a_run_is_what_ray_says_it_is_and_can_be_stopped(tmp_path):
    async def scenario(launcher, dashboard):
        known = opened(job())
        found = [await launcher.runs(job(), ()), await launcher.runs(known, ())]
        await launcher.launch(known, known.spec, "rex-1")
        for status in ("PENDING", "RUNNING", "SUCCEEDED", "FAILED"):
            dashboard.jobs[NAME]["status"] = status
            found.append((await launcher.runs(known, ()))[0].state)
        (run,) = await launcher.runs(known, ())
        await launcher.stop(known, Stop(run.name, run.uid))
        found.append((await launcher.runs(known, ()))[0].state)
        return found

    assert against(scenario, tmp_path) == [
        (), (), RunState.STARTING, RunState.RUNNING, RunState.SUCCEEDED, RunState.FAILED,
        RunState.STOPPED,
    ]  # fmt: skip


def test_a_cluster_that_is_down_is_unavailable_and_a_no_is_a_no(tmp_path, monkeypatch):
    async def scenario(launcher, dashboard):
        dashboard.down = True
        with pytest.raises(UnavailableError):
            await launcher.launch(job(), job().spec, "rex-1")
        dashboard.down = False
        monkeypatch.setattr("darkroom_operator.launch.ray_jobs.ENTRYPOINT", "bad")
        with pytest.raises(RefusedError):
            await launcher.launch(job(), job().spec, "rex-1")

    against(scenario, tmp_path)


def test_it_has_to_be_asked_after():
    assert RayJobsLauncher.poll_seconds == 5.0
