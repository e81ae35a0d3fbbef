"""The simulated dashboards: Ray's Jobs API, and jobs that fare as a test wants."""

import asyncio
import json

import pytest
from aiohttp.test_utils import TestClient, TestServer

from darkroom_testing.cluster.dashboards import Dashboards

HEAD = {"X-Forwarded-Uri": "/api/v1/namespaces/team/services/rex-head-svc:dashboard/proxy/api/jobs"}


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.json"

    def write(**values):
        path.write_text(json.dumps({"team/rex-*": values}))
        return path

    write.path = path
    return write


def converse(rules, talk):
    """Runs a conversation with a dashboard."""

    async def run():
        async with TestClient(TestServer(Dashboards(rules).application())) as client:
            return await talk(client)

    return asyncio.run(run())


async def submit(client, submission="one"):
    body = {"entrypoint": "true", "submission_id": submission, "metadata": {"a": "b"}}
    return await client.post("/api/jobs/", json=body, headers=HEAD)


async def show(client, submission="one"):
    async with client.get(f"/api/jobs/{submission}", headers=HEAD) as response:
        return await response.json()


def test_a_job_is_pending_runs_and_succeeds(rules):
    async def talk(client):
        assert (await (await submit(client)).json())["submission_id"] == "one"
        seen = []
        for _ in range(60):
            job = await show(client)
            if job["status"] not in seen:
                seen.append(job["status"])
            await asyncio.sleep(0.01)
        return seen, job

    seen, job = converse(rules(pending_seconds=0.1, seconds=0.2), talk)
    assert seen == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert job["end_time"] > job["start_time"]
    assert job["metadata"] == {"a": "b"}


def test_a_job_fails_with_the_message_and_the_logs_of_its_rule(rules):
    async def talk(client):
        await submit(client)
        logs = await (await client.get("/api/jobs/one/logs", headers=HEAD)).json()
        return await show(client), logs["logs"]

    rule = {"outcome": "FAILED", "message": "CUDA out of memory", "logs": "Traceback"}
    job, logs = converse(rules(pending_seconds=0, seconds=0, **rule), talk)
    assert (job["status"], job["message"], logs) == ("FAILED", "CUDA out of memory", "Traceback")


def test_an_endless_job_ends_when_it_is_stopped(rules):
    async def talk(client):
        await submit(client)
        before = await show(client)
        stopped = await (await client.post("/api/jobs/one/stop", headers=HEAD)).json()
        return before["status"], stopped, (await show(client))["status"]

    before, stopped, after = converse(rules(pending_seconds=0, seconds=-1), talk)
    assert (before, stopped, after) == ("RUNNING", {"stopped": True}, "STOPPED")


def test_an_identifier_is_used_once_and_an_unknown_job_is_not_found(rules):
    async def talk(client):
        await submit(client)
        again = await submit(client)
        unknown = await client.get("/api/jobs/other", headers=HEAD)
        return again.status, await again.text(), unknown.status

    status, text, unknown = converse(rules.path, talk)
    assert status == 500
    assert "Please use a different submission_id" in text
    assert unknown == 404


def test_a_dashboard_can_be_out_of_order(rules):
    async def talk(client):
        elsewhere = await client.get("/api/jobs/")
        return (await submit(client)).status, elsewhere.status

    assert converse(rules(http_status=503), talk) == (503, 200)
