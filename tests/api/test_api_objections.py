"""What keeps a valid job from running is one rule, at lint, train, apply and acceptance."""

import json
from datetime import UTC, datetime

import pytest

from darkroom_api.job import PersonalizationJobSpec, PriorMode
from darkroom_api.objections import cluster_objections, objections
from darkroom_api.status import Reason
from darkroom_api.training import Method

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SPEC = {
    "baseModel": {"uri": "builtin:miniature"},
    "subject": {
        "kind": "Person",
        "identifier": "sks",
        "classNoun": "woman",
        "images": {"uri": "pvc://photos/ada"},
        "consent": {"recordRef": {"name": "ada"}, "expires": "2027-06-30T00:00:00Z"},
    },
    "scale": {"gpusPerWorker": 0, "precision": "FP32"},
    "output": {"uri": "pvc://models"},
}


def spec(**changes):
    """The spec with values at paths: `spec(subject__images={...})`."""
    document = json.loads(json.dumps(SPEC))
    for path, value in changes.items():
        *parents, name = path.split("__")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return PersonalizationJobSpec.model_validate_json(json.dumps(document))


def said(found):
    return [str(objection.problem) for objection in found]


def test_a_good_job_has_no_objections():
    assert objections(spec(), NOW) == ()
    assert cluster_objections(spec(), NOW) == ()


@pytest.mark.parametrize("method", Method)
def test_every_method_is_there(method):
    changes = {"subject__identifier": "<sks>", "training__trainTextEncoder": False}
    assert objections(spec(training__method=method.value, **changes), NOW) == ()


@pytest.mark.parametrize("mode", PriorMode)
def test_every_prior_is_there(mode):
    assert objections(spec(priorPreservation__mode=mode.value), NOW) == ()


@pytest.mark.parametrize("uri", ["s3://bucket/a", "gs://bucket/a"])
def test_storage_that_is_not_there_yet_is_refused_at_each_field_once(uri):
    bad = spec(baseModel__uri=uri, subject__images={"uri": uri}, output__uri=uri)
    for found in (objections(bad, NOW), cluster_objections(bad, NOW)):
        assert {objection.reason for objection in found} == {Reason.UNSUPPORTED_URI}
        assert [objection.problem.field for objection in found] == [
            "spec.baseModel.uri",
            "spec.subject.images.uri",
            "spec.output.uri",
        ]
        assert f"{uri} is not available yet; use pvc://CLAIM/path or file:PATH" in said(found)[-1]


def test_a_consent_holds_until_the_second_that_it_names():
    end = "2026-11-26T00:00:00Z"
    ended = spec(subject__consent={"recordRef": {"name": "ada"}, "expires": end})
    assert objections(ended, NOW.replace(year=2025)) == ()
    for found in (objections(ended, NOW), cluster_objections(ended, NOW)):
        assert [objection.reason for objection in found] == [Reason.CONSENT_EXPIRED]
        assert said(found) == [
            f"spec.subject.consent.expires: the consent ended at {end}; ask the person again, and"
            " write when their new consent ends"
        ]


def test_folders_of_one_machine_are_good_there_and_not_on_a_cluster():
    local = spec(
        baseModel__uri="file:sd", subject__images={"uri": "file:ada"}, output__uri="file:models"
    )
    assert objections(local, NOW) == ()
    assert [message.partition(";")[0] for message in said(cluster_objections(local, NOW))] == [
        "spec.baseModel.uri: file:sd is a folder of one machine, which a cluster can't read",
        "spec.subject.images.uri: file:ada is a folder of one machine, which a cluster can't read",
        "spec.output.uri: file:models can't hold a cluster's checkpoints",
    ]


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("file:/data", 0),
        ("file:/data/ada", 0),
        ("file:/data/../etc", 1),
        ("file:/database", 1),
        ("file:data", 1),
    ],
)
def test_a_folder_that_every_node_has_can_be_read_and_never_holds_the_output(uri, number):
    assert len(cluster_objections(spec(subject__images={"uri": uri}), NOW, ["/data"])) == number
    assert len(cluster_objections(spec(output__uri=uri), NOW, ["/data"])) == 1
