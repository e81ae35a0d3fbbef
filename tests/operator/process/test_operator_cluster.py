"""Calls to the API over real HTTP: what each answer becomes, and that nobody writes who may not."""

import asyncio
import json
from dataclasses import replace

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from darkroom_api.status import PersonalizationJobStatus
from darkroom_operator.cluster.answers import error_of
from darkroom_operator.cluster.client import PAGE_SIZE, Cluster, _text
from darkroom_operator.cluster.errors import (
    ConflictError,
    FencedError,
    GoneError,
    NamespaceTerminatingError,
    NameTakenError,
    NotInstalledError,
    RefusedError,
    TooManyRequestsError,
    UnavailableError,
)
from darkroom_operator.cluster.resources import JOBS, PODS, RAY_JOBS
from darkroom_operator.launch.manifests.children import config_map
from darkroom_operator.metrics import Metrics
from darkroom_testing.in_memory.builders import KEY, UID, job


def status_body(code, message="no", **details):
    return json.dumps({"kind": "Status", "code": code, "message": message, "details": details})


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (400, status_body(400), RefusedError),
        (401, status_body(401), UnavailableError),
        (403, status_body(403), RefusedError),
        (
            403,
            status_body(403, name="n", causes=[{"reason": "NamespaceTerminating"}]),
            NamespaceTerminatingError,
        ),
        (404, status_body(404, name="rex"), GoneError),
        (404, status_body(404), NotInstalledError),
        (404, "404 page not found\n", NotInstalledError),
        (409, status_body(409, name="rex"), ConflictError),
        (409, status_body(409, causes=[{"reason": "FieldManagerConflict"}]), RefusedError),
        (410, status_body(410), GoneError),
        (422, status_body(422), RefusedError),
        (429, "slow down", TooManyRequestsError),
        (500, status_body(500), UnavailableError),
        (503, "<html>upstream</html>", UnavailableError),
        (504, "[]", UnavailableError),
    ],
)
def test_each_answer_is_an_error_with_a_rule(code, text, kind):
    assert type(error_of(code, None, text)) is kind


@given(st.text())
def test_any_text_is_sent_in_a_way_that_yaml_can_read(text):
    """Applies are read as YAML: it knows no pairs of surrogates, and more line breaks than JSON."""
    for body in ({"a": text}, {"a": {"b": [f"🤗\x7f\x85\u2028{text}"]}}):
        assert yaml.safe_load(_text(body)) == body
        assert json.loads(_text(body)) == body


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (None, 1.0), ("soon", 1.0)])
def test_patience_is_as_long_as_the_answer_says(header, seconds):
    assert error_of(429, header, "").retry_after_seconds == seconds


def answered(scenario, *answers, write_seconds=10.0, metrics=None):
    """Runs `scenario(cluster)` against a server that gives these answers; and the requests it got."""
    seen, left = [], list(answers)

    async def handle(request):
        seen.append((request.method, request.path_qs, dict(request.headers), await request.text()))
        code, body = left.pop(0)
        return web.json_response(body, status=code)

    async def main():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            url = str(server.make_url("/"))
            cluster = Cluster(session, url, metrics or Metrics(), lambda: write_seconds)
            return await scenario(cluster)

    return asyncio.run(main()), seen


TAKEN = (409, {"reason": "AlreadyExists", "details": {"name": "rex-darkroom"}})


def made(*answers, update=True):
    """The calls by which the job's ConfigMap is made, when these are the answers."""
    manifest = config_map(job(), job().spec)
    return answered(lambda cluster: cluster.make(manifest, update=update), *answers)[1]


def config_map_of(*owners, **labels):
    """A ConfigMap of the name that a job needs, with other content."""
    metadata = {"name": "rex-darkroom", "uid": "u-1", "labels": labels}
    references = [{"kind": kind, "name": name, "uid": uid} for kind, name, uid in owners]
    return (200, {"metadata": metadata | {"ownerReferences": references}})


def test_a_child_is_created_by_our_field_manager():
    ((method, path, _, body),) = made((201, {}))
    assert (method, path) == (
        "POST",
        "/api/v1/namespaces/default/configmaps?fieldManager=darkroom-operator",
    )
    assert json.loads(body) == config_map(job(), job().spec)


OURS = [
    config_map_of(("PersonalizationJob", "rex", UID)),
    config_map_of(**{"app.kubernetes.io/managed-by": "darkroom-operator"}),
]


@pytest.mark.parametrize("found", OURS, ids=["the job's own", "an orphan of ours"])
def test_a_child_that_is_there_gets_what_the_manifest_says(found):
    *_, (method, path, headers, body) = made(TAKEN, found, (200, {}))
    assert method == "PATCH"
    assert path.startswith("/api/v1/namespaces/default/configmaps/rex-darkroom?")
    assert "fieldManager=darkroom-operator&force=true" in path
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert json.loads(body)["metadata"]["uid"] == "u-1"


def test_a_child_that_is_only_to_exist_is_not_written_again():
    assert [call[0] for call in made(TAKEN, OURS[0], update=False)] == ["POST", "GET"]


FOREIGN = [
    config_map_of(),
    config_map_of(("Deployment", "rex", UID[::-1])),
    config_map_of(**{"app.kubernetes.io/managed-by": "Helm"}),
]


@pytest.mark.parametrize("found", FOREIGN, ids=["nobody's", "a Deployment's", "Helm's"])
def test_what_somebody_else_made_is_named_and_left_alone(found):
    with pytest.raises(NameTakenError, match="ConfigMap rex-darkroom is in the way"):
        made(TAKEN, found)


def test_a_child_of_an_earlier_job_of_the_name_is_waited_for():
    with pytest.raises(ConflictError, match="of an earlier job"):
        made(TAKEN, config_map_of(("PersonalizationJob", "rex", "another")))


def test_a_status_carries_what_it_was_decided_on():
    decided = replace(job(), resource_version="41")
    _, ((_, path, _, body),) = answered(
        lambda cluster: cluster.apply_status(decided, PersonalizationJobStatus()), (200, {})
    )
    assert path.startswith(
        "/apis/darkroom.dev/v1alpha1/namespaces/default/personalizationjobs/rex/status?"
    )
    metadata = json.loads(body)["metadata"]
    assert (metadata["uid"], metadata["resourceVersion"]) == (UID, "41")
    assert "spec" not in json.loads(body)


def test_a_deletion_names_the_uid():
    _, ((method, _, _, body),) = answered(
        lambda cluster: cluster.delete(RAY_JOBS, "default", "rex-1", "u-1"), (200, {})
    )
    assert method == "DELETE"
    assert json.loads(body)["preconditions"] == {"uid": "u-1"}
    assert json.loads(body)["propagationPolicy"] == "Background"


def test_what_is_not_there_is_none():
    missing = {"details": {"name": "rex"}}
    found, _ = answered(lambda cluster: cluster.get(JOBS, *vars_of(KEY)), (404, missing))
    assert found is None


def vars_of(key):
    return key.namespace, key.name


def test_a_list_comes_in_pages_with_our_label():
    async def scenario(cluster):
        return [len(items) async for items, _ in cluster.list(PODS, None)]

    pages = [
        (200, {"items": [1, 2], "metadata": {"resourceVersion": "7", "continue": "next"}}),
        (200, {"items": [3], "metadata": {"resourceVersion": "7"}}),
    ]
    found, seen = answered(scenario, *pages)
    assert found == [2, 1]
    assert seen[0][1] == f"/api/v1/pods?limit={PAGE_SIZE}&labelSelector=darkroom.dev/job"
    assert "continue=next" in seen[1][1]


def test_a_process_that_does_not_lead_sends_no_write():
    async def scenario(cluster):
        with pytest.raises(FencedError):
            await cluster.make(config_map(job(), job().spec), update=True)
        with pytest.raises(FencedError):
            await cluster.delete(RAY_JOBS, "default", "rex-1", "u-1")
        return await cluster.get(JOBS, "default", "rex")

    found, seen = answered(scenario, (200, {"kind": "x"}), write_seconds=0.0)
    assert found == {"kind": "x"}
    assert len(seen) == 1


def test_nobody_there_is_unavailable():
    async def main():
        async with aiohttp.ClientSession() as session:
            cluster = Cluster(session, "http://127.0.0.1:9", Metrics())
            with pytest.raises(UnavailableError):
                await cluster.get(JOBS, "default", "rex")

    asyncio.run(main())


def test_calls_are_counted_by_verb_resource_and_code():
    metrics = Metrics()
    answered(lambda cluster: cluster.get(JOBS, "default", "rex"), (200, {}), metrics=metrics)
    labels = {"verb": "get", "resource": "personalizationjobs", "code": "200"}
    assert metrics.registry.get_sample_value("darkroom_api_requests_total", labels) == 1
