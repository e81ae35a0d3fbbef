"""A stand-in for kube-apiserver in memory, so that every call can be made to fail at will.

It is a fake: enough of server-side apply, preconditions, finalizers and garbage collection for the
operator's own calls, and of KubeRay, kubelet and the trainer to bring a RayJob to its end. The real
ones are met in the tests of the cluster.
"""

import copy
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from darkroom_testing.in_memory.builders import KEY, UID, raw_spec

MANAGED = "darkroom-operator"


class Killed(BaseException):
    """The operator's process ends here."""


@dataclass
class Answer:
    """What aiohttp's response is to the operator."""

    status: int
    body: object
    headers: dict = field(default_factory=dict)

    async def read(self):
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return text.encode()


def failure(code, message, **details):
    reasons = {
        404: "NotFound",
        409: "Conflict",
        410: "Gone",
        422: "Invalid",
        429: "TooManyRequests",
    }
    body = {
        "kind": "Status",
        "code": code,
        "message": message,
        "reason": reasons.get(code, "Error"),
    }
    return Answer(code, body | {"details": details})


class FakeApi:
    """Objects by plural, namespace and name; the session that the operator's `Cluster` calls."""

    def __init__(self):
        self.objects, self.applied, self.calls = {}, {}, []
        self.version, self.uids = 100, 0
        self.before = lambda number, method, path: None
        """Called before each write: an Answer is given instead; `Killed` ends the process."""
        self.after = lambda number, method, path: None
        """Called after each write was carried out, likewise."""
        self.writes = 0
        self.kuberay = True
        self.terminating = False
        """The namespace is being deleted: nothing new can be made in it."""
        self.warnings = {}
        """Messages of warning events, by the name of the object that they are about."""

    # What aiohttp's session is to the operator.

    @asynccontextmanager
    async def request(self, method, url, *, data=None, headers=None, timeout=None):
        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        body = json.loads(data) if data else None
        yield self.answer(method, parts.path, query, body)

    def answer(self, method, path, query, body):
        self.calls.append((method, path))
        if method == "GET":
            return self.read(path, query)
        self.writes += 1
        number = self.writes
        if (instead := self.before(number, method, path)) is not None:
            return self.raised(instead)
        answer = self.write(method, path, query, body)
        if (instead := self.after(number, method, path)) is not None:
            return self.raised(instead)
        return answer

    @staticmethod
    def raised(instead):
        if isinstance(instead, BaseException):
            raise instead
        return instead

    # Reading.

    def read(self, path, query):
        plural, namespace, name, _ = self.place(path)
        if plural == "rayjobs" and not self.kuberay:
            return Answer(404, "404 page not found\n")
        if plural == "namespaces":
            going = {"deletionTimestamp": "2026-11-25T12:00:00Z"} if self.terminating else {}
            return Answer(200, {"metadata": {"name": name, **going}})
        if "fieldSelector" in query:
            about = query["fieldSelector"].partition(",")[0].removeprefix("involvedObject.name=")
            texts = self.warnings.get(about, ())
            events = [{"type": "Warning", "reason": "Failed", "message": one} for one in texts]
            return Answer(200, {"items": events})
        if name is not None:
            found = self.objects.get((plural, namespace, name))
            return Answer(200, found) if found else self.missing(plural, name)
        items = [
            found
            for (kind, where, _), found in sorted(self.objects.items())
            if kind == plural and namespace in (None, where)
            and (query.get("labelSelector") is None or query["labelSelector"] in labels_of(found))
        ]  # fmt: skip
        return Answer(200, {"items": items, "metadata": {"resourceVersion": str(self.version)}})

    # Writing.

    def write(self, method, path, query, body):
        plural, namespace, name, sub = self.place(path)
        if plural == "rayjobs" and not self.kuberay:
            return Answer(404, "404 page not found\n")
        if method == "PATCH":
            return self.apply((plural, namespace, name), sub, query, body)
        if method == "DELETE":
            only_if = body["preconditions"]
            return self.delete(
                (plural, namespace, name), only_if["uid"], only_if.get("resourceVersion")
            )
        if self.terminating and namespace is not None:
            causes = [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]
            return failure(403, "unable to create new content", name=namespace, causes=causes)
        return self.create((plural, namespace, body["metadata"]["name"]), body)

    def create(self, key, body):
        if key in self.objects:
            return failure(409, f"{key[2]} already exists", name=key[2])
        return Answer(201, self.store(key, copy.deepcopy(body)))

    def apply(self, key, sub, query, body):
        known = self.objects.get(key)
        if known is None and (sub or body["metadata"].get("uid")):
            return self.missing(key[0], key[2])
        wanted = body["metadata"]
        if known is not None:
            for name in ("uid", "resourceVersion"):
                if wanted.get(name) not in (None, known["metadata"][name]):
                    return failure(409, f"{name} is another", name=key[2])
        made = copy.deepcopy(known) if known else {"metadata": {"namespace": key[1]}}
        ours = self.applied.get((key, sub), {})
        if known is not None and not ours and query["force"] == "false":
            causes = [{"reason": "FieldManagerConflict"}]
            return failure(409, "Apply failed with 1 conflict", name=key[2], causes=causes)
        self.applied[key, sub] = copy.deepcopy(body)
        if sub == "status":
            made["status"] = body["status"]
        else:
            merge(made, body)
            if "finalizers" in wanted:
                owned = ours.get("metadata", {}).get("finalizers", ())
                others = (known or made)["metadata"].get("finalizers", ())
                kept = [one for one in others if one not in owned]
                made["metadata"]["finalizers"] = [*kept, *wanted["finalizers"]]
        if made == known:
            return Answer(200, known)
        if known is not None and made.get("spec") != known.get("spec"):
            made["metadata"]["generation"] += 1
        return Answer(200, self.finish(key, made))

    def delete(self, key, uid, version=None):
        known = self.objects.get(key)
        if known is None:
            return self.missing(key[0], key[2])
        if known["metadata"]["uid"] != uid:
            return failure(409, "the uid is another", name=key[2])
        if version not in (None, known["metadata"]["resourceVersion"]):
            return failure(409, "the version is another", name=key[2])
        gone = copy.deepcopy(known)
        gone["metadata"].setdefault("deletionTimestamp", "2026-11-25T12:00:00Z")
        self.finish(key, gone)
        return Answer(200, gone)

    def finish(self, key, made):
        """Stores an object, or lets it go when it is deleted and nothing holds it."""
        if "deletionTimestamp" in made["metadata"] and not made["metadata"].get("finalizers"):
            del self.objects[key]
            self.collect(made["metadata"]["uid"])
            return made
        return self.store(key, made)

    def store(self, key, made):
        self.version += 1
        metadata = made["metadata"]
        if "uid" not in metadata:
            self.uids += 1
            metadata["uid"] = f"uid-{self.uids}"
            metadata["generation"] = 1
            if key[0] == "rayjobs":
                metadata["finalizers"] = ["ray.io/rayjob-finalizer"]
        metadata["resourceVersion"] = str(self.version)
        self.objects[key] = made
        return copy.deepcopy(made)

    def collect(self, uid):
        """The garbage collector: what a deleted object owned goes too."""
        for key, found in list(self.objects.items()):
            owners = found["metadata"].get("ownerReferences", ())
            if any(owner["uid"] == uid for owner in owners):
                self.delete(key, found["metadata"]["uid"])

    def missing(self, plural, name):
        return failure(404, f'{plural} "{name}" not found', name=name, kind=plural)

    @staticmethod
    def place(path):
        """Plural, namespace, name and subresource of a path."""
        parts = path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = None
        if parts[0] == "namespaces" and len(parts) == 2:
            return "namespaces", None, parts[1], None
        if parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        return parts[0], namespace, *[*parts[1:], None, None][:2]

    # What users and controllers do.

    def make_job(self, *, uid=UID, labels=None, **changes):
        key = ("personalizationjobs", KEY.namespace, KEY.name)
        metadata = {"name": KEY.name, "namespace": KEY.namespace, "uid": uid, "generation": 1}
        metadata["labels"] = labels or {}
        return self.store(
            key,
            {
                "apiVersion": "darkroom.dev/v1alpha1",
                "kind": "PersonalizationJob",
                "metadata": metadata,
                "spec": raw_spec(**changes),
            },
        )

    def job(self):
        return self.objects.get(("personalizationjobs", KEY.namespace, KEY.name))

    def edit_policy(self, **policy):
        job = copy.deepcopy(self.job())
        job["spec"].setdefault("runPolicy", {}).update(policy)
        job["metadata"]["generation"] += 1
        self.store(("personalizationjobs", KEY.namespace, KEY.name), job)

    def all(self, plural):
        return [found for (kind, _, _), found in sorted(self.objects.items()) if kind == plural]

    def set_status(self, plural, name, **status):
        key = (plural, KEY.namespace, name)
        made = copy.deepcopy(self.objects[key])
        made.setdefault("status", {}).update(status)
        self.store(key, made)

    def release(self, plural, name):
        """Takes the finalizers off a deleted object: it is gone then, and its pods go."""
        key = (plural, KEY.namespace, name)
        made = copy.deepcopy(self.objects[key])
        made["metadata"]["finalizers"] = []
        self.finish(key, made)


def labels_of(found):
    return found["metadata"].get("labels", {})


def merge(target, source):
    for name, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            merge(target[name], value)
        elif name not in ("resourceVersion", "finalizers"):
            target[name] = copy.deepcopy(value)
