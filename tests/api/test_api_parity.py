"""pydantic and the CRD accept and refuse the same jobs: a property over generated and damaged ones."""

import copy
import json

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

SETTINGS = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


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
    places = list(paths(apiserver.schema["properties"]["spec"]))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged(data.draw, spec, places)
    job = job_of(spec)
    ours, theirs = refusals(job), apiserver.refusals(job)
    event("refused" if ours else "accepted")
    assert bool(ours) == bool(theirs), (ours, theirs, json.dumps(job))


@SETTINGS
@given(data=st.data())
def test_both_agree_on_specs_of_the_schema(apiserver, data):
    job = job_of(data.draw(objects(apiserver.schema["properties"]["spec"])))
    ours, theirs = refusals(job), apiserver.refusals(job)
    assert bool(ours) == bool(theirs), (ours, theirs, json.dumps(job))


@SETTINGS
@given(data=st.data())
def test_both_agree_where_a_rule_bites(apiserver, data):
    spec = copy.deepcopy(data.draw(valid_specs()))
    section = data.draw(st.sampled_from(sorted(NEAR_RULES)))
    fields = data.draw(st.fixed_dictionaries({}, optional=NEAR_RULES[section]))
    spec[section] = spec.get(section, {}) | fields
    ours, theirs = refusals(job_of(spec)), apiserver.refusals(job_of(spec))
    assert bool(ours) == bool(theirs), (ours, theirs, json.dumps(spec))


@SETTINGS
@given(expires=CONSENTS, data=st.data())
def test_both_agree_on_status_and_consent(apiserver, expires, data):
    job = job_of(data.draw(valid_specs()))
    job["spec"]["subject"] = {**job["spec"]["subject"], "consent": expires}
    job["status"] = data.draw(objects(apiserver.schema["properties"]["status"]))
    ours, theirs = refusals(job), apiserver.refusals(job)
    assert bool(ours) == bool(theirs), (ours, theirs, json.dumps(job))


@SETTINGS
@given(
    name=st.text("abz09-.A_\n", max_size=45) | st.from_regex(r"[a-z0-9-]{38,42}", fullmatch=True)
)
def test_both_agree_on_names(apiserver, small_job, name):
    job = job_of(small_job["spec"], name)
    assert bool(refusals(job)) == bool(apiserver.refusals(job)), name


@SETTINGS
@given(old=valid_specs(), new=valid_specs())
def test_both_agree_on_what_may_change(apiserver, old, new):
    before, after = (PersonalizationJobSpec.model_validate_json(json.dumps(s)) for s in (old, new))
    changed = changed_fields(before, after)
    assert bool(changed) == bool(apiserver.refusals(job_of(new), old=job_of(old)))
