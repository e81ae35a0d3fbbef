"""Acceptance: the objections that lint and apply know, as the reason and the words of a status."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from darkroom_api.job import PersonalizationJobSpec
from darkroom_operator.decisions.acceptance import objection
from darkroom_operator.decisions.failures import Finding

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def verdict(**changes):
    spec = {
        "baseModel": {"uri": "builtin:miniature"},
        "subject": {
            "kind": "Animal",
            "identifier": "sks",
            "classNoun": "dog",
            "images": {"uri": "pvc://photos/rex"},
        },
        "output": {"uri": "pvc://models"},
        **changes,
    }
    job = SimpleNamespace(spec=PersonalizationJobSpec.model_validate_json(json.dumps(spec)))
    return objection(SimpleNamespace(job=job), NOW, SimpleNamespace(file_roots=()))


def test_a_good_job_is_accepted():
    assert verdict() is None


@pytest.mark.parametrize(
    ("changes", "word", "message"),
    [
        (
            {"baseModel": {"uri": "s3://bucket/sd"}},
            "UnsupportedUri",
            "spec.baseModel.uri: s3://bucket/sd is not available yet; copy it to a volume or a"
            " folder, and use pvc://CLAIM/path or file:PATH",
        ),
        (
            {"output": {"uri": "file:models"}},
            "UnsupportedUri",
            "spec.output.uri: file:models can't hold a cluster's checkpoints; use pvc://CLAIM/path",
        ),
    ],
)
def test_what_can_not_run_is_refused_before_any_pod_is_asked_for(changes, word, message):
    assert verdict(**changes) == Finding(word, message)
