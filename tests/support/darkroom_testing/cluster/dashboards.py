"""Simulated Ray dashboards: one server for all simulated pods, one Ray cluster for each address.

It speaks what KubeRay asks of a dashboard: Ray's Jobs API. How a job fares is a rule, looked up by
`NAMESPACE/SERVICE` in a file that tests write (`Cluster.simulate`); the first pattern that matches
counts. `python -m darkroom_testing.cluster.dashboards PORT RULES`.
"""

import fnmatch
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

PROXY = "/api/v1/namespaces/"
TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Rule:
    """How a job fares: it is pending, runs, and ends."""

    pending_seconds: float = 0.2
    seconds: float = 1.0
    """How long it runs; a negative number: until it is stopped."""
    outcome: str = "SUCCEEDED"
    message: str = ""
    error_type: str | None = None
    logs: str = "simulated\n"
    http_status: int = 200
    """What the dashboard answers to everything; not 200: it is out of order."""


@dataclass
class Job:
    """A submitted job, whose status follows from the time that has passed."""

    request: dict[str, Any]
    submission: str
    rule: Rule
    began: float = field(default_factory=time.time)
    stopped: float | None = None

    def ends(self) -> float:
        if self.stopped is not None:
            return self.stopped
        lasts = self.rule.pending_seconds + self.rule.seconds
        return float("inf") if self.rule.seconds < 0 else self.began + lasts

    def status(self) -> str:
        now = time.time()
        if self.stopped is not None:
            return "STOPPED"
        if now >= self.ends():
            return self.rule.outcome
        return "PENDING" if now < self.began + self.rule.pending_seconds else "RUNNING"

    def document(self) -> dict[str, Any]:
        """What Ray's Jobs API says of a job."""
        status = self.status()
        ended = status in TERMINAL
        failed = status == "FAILED"
        return {
            "type": "SUBMISSION",
            "job_id": None,
            "submission_id": self.submission,
            "status": status,
            "entrypoint": self.request.get("entrypoint", ""),
            "message": self.rule.message if ended else f"The job is {status.lower()}.",
            "error_type": self.rule.error_type if failed else None,
            "metadata": self.request.get("metadata") or {},
            "runtime_env": self.request.get("runtime_env") or {},
            "start_time": int(self.began * 1000),
            "end_time": int(self.ends() * 1000) if ended else None,
        }


class Dashboards:
    """The Ray clusters by the address of their head, and the rules of their jobs."""

    def __init__(self, rules: Path) -> None:
        self.rules = rules
        self.clusters: dict[str, dict[str, Job]] = {}

    def rule(self, request: web.Request) -> Rule:
        """The rule of the dashboard that is asked; the apiserver says which service that is."""
        forwarded = request.headers.get("X-Forwarded-Uri", "").removeprefix(PROXY)
        namespace, _, rest = forwarded.partition("/")
        service = rest.removeprefix("services/").partition("/")[0].partition(":")[0]
        try:
            rules: dict[str, dict[str, Any]] = json.loads(self.rules.read_text())
        except FileNotFoundError:
            return Rule()
        for pattern, values in rules.items():
            if fnmatch.fnmatchcase(f"{namespace}/{service}", pattern):
                return Rule(**values)
        return Rule()

    def jobs(self, request: web.Request) -> dict[str, Job]:
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        return self.clusters.setdefault(address, {})

    def job(self, request: web.Request) -> Job:
        found = self.jobs(request).get(request.match_info["job"])
        if found is None:
            raise web.HTTPNotFound(text=f"Job {request.match_info['job']} does not exist")
        return found

    @web.middleware
    async def out_of_order(self, request: web.Request, handler: Any) -> web.StreamResponse:
        status = self.rule(request).http_status
        if status != 200:
            return web.Response(status=status, text="simulated: out of order")
        response: web.StreamResponse = await handler(request)
        return response

    async def list_jobs(self, request: web.Request) -> web.Response:
        return web.json_response([job.document() for job in self.jobs(request).values()])

    async def submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        submission = body.get("submission_id") or f"raysubmit_{time.time_ns()}"
        jobs = self.jobs(request)
        if submission in jobs:
            text = f"Job with submission_id {submission} already exists. "
            return web.Response(status=500, text=text + "Please use a different submission_id.")
        jobs[submission] = Job(body, submission, self.rule(request))
        return web.json_response({"job_id": submission, "submission_id": submission})

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(self.job(request).document())

    async def stop(self, request: web.Request) -> web.Response:
        job = self.job(request)
        running = job.status() not in TERMINAL
        if running:
            job.stopped = time.time()
        return web.json_response({"stopped": running})

    async def delete(self, request: web.Request) -> web.Response:
        job = self.job(request)
        del self.jobs(request)[job.submission]
        return web.json_response({"deleted": True})

    async def logs(self, request: web.Request) -> web.Response:
        return web.json_response({"logs": self.job(request).rule.logs})

    async def version(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"version": "4", "ray_version": "simulated"})

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self.out_of_order])
        application.add_routes(
            [
                web.get("/api/version", self.version),
                web.get("/api/jobs/", self.list_jobs),
                web.post("/api/jobs/", self.submit),
                web.get("/api/jobs/{job}", self.show),
                web.delete("/api/jobs/{job}", self.delete),
                web.post("/api/jobs/{job}/stop", self.stop),
                web.get("/api/jobs/{job}/logs", self.logs),
            ]
        )
        return application


def main() -> None:
    """Serves all dashboards until it is stopped."""
    port, rules = sys.argv[1:]
    application = Dashboards(Path(rules)).application()
    web.run_app(application, port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
