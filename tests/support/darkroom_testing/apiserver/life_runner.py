"""Many lives of jobs side by side on a real apiserver, and the operators that serve them.

A life is a generator: it does what users, KubeRay and trainers do, and yields what it waits for.
"""

import http
import http.client
import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final

from darkroom_testing.apiserver.apiserver_world import (
    MERGE,
    Admin,
    job_document,
    jobs_path,
    ray_jobs_path,
    word_of,
)
from darkroom_testing.apiserver.operator_process import Installation, Operator
from darkroom_testing.apiserver.proxy import Call, Fault, Proxy
from darkroom_testing.cluster.cluster import Cluster, Document, wait_for

QUICK: Final = {
    "DARKROOM_WORKERS": "64",
    "DARKROOM_REFUSAL_SECONDS": "2",
    "DARKROOM_PROGRESS_SECONDS": "1",
}
"""Shorter waits than a user's, and room for many calls that have no answer."""

PATIENCE_SECONDS: Final = 90.0
"""Longest time in which no life goes on."""

Condition = Callable[[], object]
Life = Generator[Condition, None, None]


class Mirror(threading.Thread):
    """What a namespace has of a resource, by a watch of the test's own."""

    def __init__(self, cluster: Cluster, path: str, news: threading.Event) -> None:
        super().__init__(daemon=True)
        self.objects: dict[str, Document] = {}
        self.uids: dict[str, set[str]] = {}
        """Of all that there was, by name: one that was made anew has another."""
        self._admin, self._path, self._news = Admin(cluster), path, news
        self._ended = False
        self.start()

    def run(self) -> None:
        while not self._ended:
            # An apiserver that has just learnt of a resource answers 429 for a moment.
            with suppress(AssertionError, OSError, http.client.HTTPException, ValueError):
                self._follow()
            time.sleep(0.1)

    def close(self) -> None:
        self._ended = True

    def _follow(self) -> None:
        page = self._admin.call("GET", self._path)
        self.objects = {}
        for one in page["items"]:
            self._keep(one)
        version = page["metadata"]["resourceVersion"]
        for line in self._admin.lines(f"{self._path}?watch=1&resourceVersion={version}"):
            event = json.loads(line)
            if event["type"] == "DELETED":
                self.objects.pop(event["object"]["metadata"]["name"], None)
            else:
                self._keep(event["object"])
            self._news.set()
            if self._ended:
                return

    def _keep(self, one: Document) -> None:
        name = one["metadata"]["name"]
        self.objects[name] = one
        self.uids.setdefault(name, set()).add(one["metadata"]["uid"])


class Plan:
    """Which call of which job fails; remembers what was called."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.strikes: dict[str, dict[str, Fault]] = {}
        """By job and call; each happens once."""
        self.calls: dict[str, list[str]] = {}
        self._attempts: Counter[str] = Counter()

    def __call__(self, call: Call) -> Fault | None:
        if call.namespace != self._namespace:
            return None
        job = owner_of(call.name)
        what = self._named(job, call)
        self.calls.setdefault(job, []).append(what)
        return self.strikes.get(job, {}).pop(what, None)

    def _named(self, job: str, call: Call) -> str:
        """The same words for the same call of any job of the same life, however often it is sent."""
        detail = call.name.replace(job, "job")
        if call.resource.endswith("/status"):
            detail = word_of(call.body)
            self._attempts[job] = len(call.body["status"].get("attempts", ()))
        elif call.resource == "events":
            detail = call.body["reason"]
        return f"{self._attempts[job]}: {call.method} {call.resource} {detail}"


def owner_of(name: str) -> str:
    """The job whose child has this name: names of jobs have no `-` here."""
    found = re.match(r"[a-z0-9]+", name)
    assert found is not None
    return found.group()


class Stage:
    """A namespace, the jobs in it, the proxy and the operator that leads."""

    def __init__(
        self,
        installation: Installation,
        proxy: Proxy,
        namespace: str,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.settings = {**QUICK, **settings}
        self.installation, self.proxy, self.namespace = installation, proxy, namespace
        self.admin, self.plan = Admin(installation.cluster), Plan(namespace)
        self.news, self.reporters = threading.Event(), ThreadPoolExecutor(32)
        core = f"/api/v1/namespaces/{namespace}"
        paths = {
            "jobs": jobs_path(namespace),
            "rayjobs": ray_jobs_path(namespace),
            "pods": f"{core}/pods",
        }
        cluster = installation.cluster
        self.mirrors = {key: Mirror(cluster, path, self.news) for key, path in paths.items()}
        self.version, self.kills = 1, 0
        self.ended_calls = 0
        """Calls without an answer when the operator that had sent them was ended."""
        self.spare: Operator | None = None
        self.leader = self.start()
        self.leader.wait("leading")
        proxy.judge = self.plan

    def start(self) -> Operator:
        """Starts an operator of the current version."""
        image = f"example.org/trainer:{self.version}"
        return self.installation.start(DARKROOM_TRAINER_IMAGE=image, **self.settings)

    def restart(self, **settings: str) -> None:
        """Replaces the operator by one with other settings."""
        assert self.leader.stop() == 0
        self.settings |= settings
        self.leader = self.start()
        self.leader.wait("leading")

    def upgrade(self) -> None:
        """The next version takes the place of this one, as in a rolling update."""
        self.version += 1
        if self.spare is not None:
            self.spare.stop(signal.SIGKILL)
        new = self.start()
        new.wait("standby")
        self.ended_calls += self.proxy.hanging
        assert self.leader.stop() == 0
        new.wait("leading")
        self.leader = new
        self.spare = self.start() if self.spare is not None else None

    def kill(self) -> None:
        """SIGKILL for the leader; the test tells the other that nobody holds the Lease any more.

        Otherwise it waits for 15 s each time; `test_operator_two_processes` does.
        """
        assert self.spare is not None
        self.leader.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)  # what it has sent arrives
        self.ended_calls += self.proxy.hanging
        self.leader.stop(signal.SIGKILL)
        self.kills += 1
        wait_for(lambda: not self.proxy.hanging, "end of the killed one's connections", pause=0.02)
        self.spare.wait("standby")
        group = "/apis/coordination.k8s.io/v1"
        place = f"{group}/namespaces/{self.installation.namespace}/leases"
        self.admin.call("DELETE", f"{place}/darkroom-operator")
        self.leader = self.spare
        self.leader.wait("leading")
        self.spare = self.start()

    def products(self) -> list[Document]:
        """What belongs to jobs."""
        namespace = self.namespace
        paths = (
            ray_jobs_path(namespace),
            f"/apis/batch/v1/namespaces/{namespace}/jobs",
            f"/api/v1/namespaces/{namespace}/configmaps",
            f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
            f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
        )
        return [
            one | {"kind": path.rpartition("/")[2]}
            for path in paths
            for one in self.admin.metadata(f"{path}?labelSelector=darkroom.dev/job")
        ]

    def close(self) -> None:
        for mirror in self.mirrors.values():
            mirror.close()
        self.reporters.shutdown(wait=False, cancel_futures=True)


class Actor:
    """One job, and what its user, KubeRay and its trainer do."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name = stage, name
        self.at_the_upgrade = self.is_over = False

    def create(self, **spec: Any) -> None:
        self.stage.admin.create_job(job_document(self.stage.namespace, self.name, **spec))

    def delete(self) -> None:
        self.stage.admin.call("DELETE", f"{jobs_path(self.stage.namespace)}/{self.name}")

    def patch(self, **run_policy: Any) -> None:
        patch = {"spec": {"runPolicy": run_policy}}
        self.stage.admin.patch_job(self.stage.namespace, self.name, patch)

    def says(self, attempt: int, deployment: str, job: str, **more: str) -> None:
        """KubeRay's words."""
        name = f"{self.name}-{attempt}"
        self.stage.admin.set_ray_job(self.stage.namespace, name, deployment, job, **more)

    @property
    def job(self) -> Document | None:
        return self.stage.mirrors["jobs"].objects.get(self.name)

    def word(self, word: str) -> Condition:
        return lambda: word_of(self.job or {}) == word

    def ray_job(self, attempt: int) -> Condition:
        return lambda: f"{self.name}-{attempt}" in self.stage.mirrors["rayjobs"].objects

    def image(self, attempt: int) -> str:
        """That of an attempt's pods."""
        found = self.stage.mirrors["rayjobs"].objects[f"{self.name}-{attempt}"]
        head = found["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        return str(head["containers"][0]["image"])

    def gone(self) -> bool:
        names = (f"{self.name}-1", f"{self.name}-2")
        runs = self.stage.mirrors["rayjobs"].objects
        return self.job is None and not any(name in runs for name in names)

    # Its pods.

    def pod_path(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.stage.namespace}/pods/{name}".rstrip("/")

    def make_pod(self, attempt: int) -> None:
        """A pod of an attempt, and the token with which it reports."""
        name = f"{self.name}-{attempt}-head"
        labels = {"darkroom.dev/job": self.name, "darkroom.dev/attempt": f"{self.name}-{attempt}"}
        container = {"name": "ray", "image": "none"}
        spec = {"containers": [container], "automountServiceAccountToken": False}
        metadata = {"name": name, "labels": labels}
        admin = self.stage.admin
        pod = admin.call("POST", self.pod_path(), {"metadata": metadata, "spec": spec})
        reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]}
        asked = {"audiences": ["darkroom.dev/progress"], "boundObjectRef": reference}
        account = f"/api/v1/namespaces/{self.stage.namespace}/serviceaccounts/default/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": asked}
        self._token = admin.call("POST", account, request)["status"]["token"]

    def remove_pod(self, attempt: int) -> None:
        now = {"gracePeriodSeconds": 0}
        self.stage.admin.call("DELETE", self.pod_path(f"{self.name}-{attempt}-head"), now)

    def reports(self, attempt: int, until: Condition | None = None, **report: Any) -> Condition:
        """A trainer's report: sent until the operator has taken it, as the trainer does.

        One with `until` is followed by others that say the same, as in a training that goes on.
        """
        body = {"maxSteps": 150, "time": "2026-01-01T00:00:00Z", **report}
        place = f"/v1/jobs/{self.stage.namespace}/{self.name}/attempts/{attempt}/progress"
        sent: list[Future[bool]] = []

        def put() -> bool:
            taken = False
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.stage.leader.port, 5)
                headers = {"Authorization": f"Bearer {self._token}"}
                connection.request("PUT", place, json.dumps(body), headers)
                taken = connection.getresponse().status < http.HTTPStatus.MULTIPLE_CHOICES
            if until is not None or not taken:
                time.sleep(1.0)
            return taken

        def over() -> object:
            ended = sent and sent[-1].done()
            if until is not None and until():
                return True
            if until is None and ended and sent[-1].result():
                return True
            if not sent or ended:
                sent.append(self.stage.reporters.submit(put))
            return False

        return over

    def cleaned(self) -> bool:
        """The pod that removes a model has done so."""
        for name, pod in list(self.stage.mirrors["pods"].objects.items()):
            if name.startswith(f"{self.name}-cleanup"):
                if pod.get("status", {}).get("phase") != "Succeeded":
                    status = {"status": {"phase": "Succeeded"}}
                    path = f"{self.pod_path(name)}/status"
                    self.stage.admin.call("PATCH", path, status, kind=MERGE)
                return True
        return False


def play(stage: Stage, lives: dict[Actor, Life], tick: Callable[[], None]) -> None:
    """Lets all lives go on until each has ended. AssertionError when one doesn't."""
    waiting: dict[Actor, Condition] = {}
    for actor, life in lives.items():
        waiting[actor] = next(life)
        tick()
    moved = time.monotonic()
    while waiting:
        stage.news.wait(0.02)
        stage.news.clear()
        tick()
        for actor in list(waiting):
            while actor in waiting and waiting[actor]():
                moved = time.monotonic()
                following = next(lives[actor], None)
                if following is None:
                    actor.is_over = True
                    del waiting[actor]
                else:
                    waiting[actor] = following
        if time.monotonic() > moved + PATIENCE_SECONDS:
            found = {one.name: word_of(one.job or {}) for one in waiting}
            wanted = {name: stage.plan.strikes.get(name) for name in found}
            raise AssertionError(f"wedged: {found}, after {wanted}")


def settled(stage: Stage) -> None:
    """Waits until what deleted jobs had is gone, and nothing is called any more."""
    counts = []

    def quiet() -> bool:
        if any(orphaned(one, stage.mirrors["jobs"].objects) for one in stage.products()):
            return False
        counts.append(sum(map(len, stage.plan.calls.values())))
        return counts[-2:] == [counts[-1]] * 2

    wait_for(quiet, "end of what deleted jobs had, and of calls", pause=1.0)


def orphaned(product: Document, jobs: dict[str, Document]) -> bool:
    """Whether the job that an object belongs to is not there."""
    (owner,) = product["metadata"]["ownerReferences"]
    job = jobs.get(owner["name"])
    return job is None or job["metadata"]["uid"] != owner["uid"]


@contextmanager
def staged(
    installation: Installation, proxy: Proxy, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Stage]:
    """A stage whose operators go through the proxy."""
    path = installation.folder / "proxied.kubeconfig"
    installation.kubeconfig = proxy.kubeconfig(installation.kubeconfig, path)
    with installation.cluster.namespace("lives") as namespace:
        stage = Stage(installation, proxy, namespace, settings)
        try:
            yield stage
        finally:
            stage.close()
