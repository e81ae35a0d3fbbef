"""pydantic and the CRD accept and refuse the same jobs: a property over generated and damaged ones."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.load import JobFileError, parse_job
from darkroom_api.rules import changed_fields
from darkroom_testing.job_strategies import (
    CONSENTS,
    NEAR_RULES,
    damaged,
    objects,
    paths,
    valid_specs,
)

ROOT = Path(__file__).parents[2]
CRD = yaml.safe_load((ROOT / "crds/darkroom.dev_personalizationjobs.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
SPECS, STATUSES = objects(SCHEMA["spec"]), objects(SCHEMA["status"])
PLACES = list(paths(SCHEMA["spec"]))


def with_examples(number):
    """As many examples, the same in each run."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


SETTINGS = with_examples(300)
few_or_many = pytest.mark.parametrize(
    "examples", [100, pytest.param(600, marks=pytest.mark.exhaustive)]
)
"""Of what is slow to draw."""


def refusals(job):
    """What pydantic has against a job."""
    try:
        parse_job(job)
    except JobFileError as error:
        return [str(problem) for problem in error.problems]
    return []


def job_of(spec, name="rex"):
    return {
        "apiVersion": "darkroom.dev/v1alpha1",
        "kind": "PersonalizationJob",
        "metadata": {"name": name},
        "spec": spec,
    }


@SETTINGS
@given(spec=valid_specs())
def test_both_accept_valid_jobs(apiserver, spec):
    assert refusals(job_of(spec)) == []
    assert apiserver.refusals(job_of(spec)) == []


@SETTINGS
@given(data=st.data())
def test_both_accept_or_both_refuse_a_damaged_job(apiserver, data):
    spec = copy.deepcopy(data.draw(valid_specs()))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged(data.draw, spec, PLACES)
    job = job_of(spec)
    ours, theirs = refusals(job), apiserver.refusals(job)
    event("refused" if ours else "accepted")
    assert bool(ours) == bool(theirs), (ours, theirs, json.dumps(job))


@few_or_many
def test_both_agree_on_specs_of_the_schema(apiserver, examples):
    @with_examples(examples)
    @given(spec=SPECS)
    def agree(spec):
        job = job_of(spec)
        ours, theirs = refusals(job), apiserver.refusals(job)
        assert bool(ours) == bool(theirs), (ours, theirs, json.dumps(job))

    agree()


@SETTINGS
@given(data=st.data())
def test_both_agree_where_a_rule_bites(apiserver, data):
    spec = copy.deepcopy(data.draw(valid_specs()))
    section = data.draw(st.sampled_from(sorted(NEAR_RULES)))
    fields = data.draw(st.fixed_dictionaries({}, optional=NEAR_RULES[section]))
    spec[section] = spec.get(section, {}) | fields
    ours, theirs = refusals(job_of(spec)), apiserver.refusals(job_of(spec))
    assert bool(ours) == bool(theirs), (ours, theirs, json.dumps(spec))


@few_or_many
def test_both_agree_on_status_and_consent(apiserver, examples):
    @with_examples(examples)
    @given(spec=valid_specs(), consent=CONSENTS, status=STATUSES)
    def agree(spec, consent, status):
        job = job_of(spec)
        job["spec"]["subject"] = {**job["spec"]["subject"], "consent": consent}
        job["status"] = status
        ours, theirs = refusals(job), apiserver.refusals(job)
        assert bool(ours) == bool(theirs), (ours, theirs, json.dumps(job))

    agree()


@SETTINGS
@given(
    name=st.text("abz09-.A_\n", max_size=45) | st.from_regex(r"[a-z0-9-]{38,42}", fullmatch=True)
)
def test_both_agree_on_names(apiserver, small_job, name):
    job = job_of(small_job["spec"], name)
    assert bool(refusals(job)) == bool(apiserver.refusals(job)), name


@few_or_many
def test_both_agree_on_what_may_change(apiserver, examples):
    @with_examples(examples)
    @given(old=valid_specs(), new=valid_specs())
    def agree(old, new):
        before, after = (
            PersonalizationJobSpec.model_validate_json(json.dumps(spec)) for spec in (old, new)
        )
        changed = changed_fields(before, after)
        assert bool(changed) == bool(apiserver.refusals(job_of(new), old=job_of(old)))

    agree()
