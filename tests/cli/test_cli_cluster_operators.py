"""A job that no operator looks at: apply, describe and watch say so, and what to do."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from darkroom.cluster.operators import Operator, neglect
from darkroom_api.load import parse_job

JOB = "get --output=json personalizationjobs.darkroom.dev"
OPERATORS = "get --output=json configmaps --selector=darkroom.dev/operator --namespace=kube-public"
WATCH = "get --output=json --watch --output-watch-events personalizationjobs.darkroom.dev"
APPLY = "apply --server-side --field-manager=darkroom --filename=-"
CREATED = datetime(2026, 11, 25, 15, 25, 48, tzinfo=UTC)
UNWATCHED = (
    "no operator watches namespace team-a (blue in darkroom-system watches team-b, team-c): apply"
    " it in one of these, or helm upgrade blue charts/darkroom --namespace darkroom-system"
    " --reuse-values --set 'watchNamespaces={team-b,team-c,team-a}'"
)
UNHEARD = (
    "see that one is installed (helm list --all-namespaces) and what it says (kubectl logs"
    " --namespace darkroom-system --selector app.kubernetes.io/component=operator)"
)


def published(*namespaces):
    """What the chart's release blue publishes."""
    labels = {"darkroom.dev/operator": "darkroom-system", "app.kubernetes.io/instance": "blue"}
    data = {"namespaces": ",".join(namespaces), "operator": "darkroom-system/x", "version": "1"}
    return json.dumps({"items": [{"metadata": {"labels": labels}, "data": data}]})


def operator(*namespaces):
    return Operator(release="blue", namespace="gpu", watched=namespaces)


@pytest.fixture
def new_job(recorded):
    """A job that was created just now, or some seconds ago."""

    def build(seconds=0):
        time = datetime.now(UTC) - timedelta(seconds=seconds)
        return recorded("job-new", metadata={"creationTimestamp": time.isoformat()})

    return build


@pytest.fixture
def blank(fake_kubectl, new_job):
    """The fake knows the job rex, which has no status yet, and an operator of other namespaces."""
    fake_kubectl.answer(JOB, json.dumps(new_job()))
    fake_kubectl.answer(OPERATORS, published("team-b", "team-c"))
    return fake_kubectl


def words(output):
    return " ".join(output.split())


def test_every_verb_that_shows_a_job_says_that_no_operator_watches_the_namespace(
    blank, new_job, recorded, darkroom
):
    assert f"next {UNWATCHED}" in words(darkroom("describe", "rex").stdout)
    deleted = {"type": "DELETED", "object": new_job()}
    blank.answer(WATCH, f"{json.dumps(deleted)}\n")
    assert darkroom("watch", "rex").stderr.startswith(f"warning: {UNWATCHED}\n")
    assert darkroom("logs", "rex").stderr == f"rex has no attempt yet; {UNWATCHED}\n"
    blank.answer(JOB, json.dumps(recorded("job-training")))
    assert f"next {UNWATCHED}" in words(darkroom("describe", "rex").stdout)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_apply_warns_that_no_operator_watches_the_namespace(options, blank, valid_job, darkroom):
    text = valid_job.read_text().replace("uri: file:photos", "configMap: rex-photos")
    valid_job.write_text(text)
    blank.answer(APPLY, "job-new.json")
    done = darkroom("apply", valid_job, *options)
    assert done.exit_code == 0
    assert done.stderr == f"warning: {UNWATCHED}\n"


@pytest.mark.parametrize("namespaces", [(), ("team-b", "team-a")])
def test_a_watched_namespace_needs_no_words(namespaces, blank, darkroom):
    blank.answer(OPERATORS, published(*namespaces))
    done = darkroom("describe", "rex")
    assert "next wait: the operator has not looked at the job yet" in words(done.stdout)


@pytest.mark.parametrize("answer", [{"error": "error-forbidden.txt"}, {"output": '{"items": []}'}])
def test_where_nothing_is_published_nothing_is_said_of_namespaces(answer, blank, new_job, darkroom):
    blank.answer(OPERATORS, **answer)
    done = darkroom("describe", "rex")
    assert "next wait: the operator has not looked at the job yet" in words(done.stdout)
    blank.answer(JOB, json.dumps(new_job(seconds=3600)))
    text = words(darkroom("describe", "rex").stdout)
    assert "next no operator has looked at it for 1 h: see that one is installed" in text
    assert UNHEARD in text


def test_an_operator_has_half_a_minute(recorded):
    job = parse_job(recorded("job-new"))
    assert neglect(job, (), CREATED + timedelta(seconds=30)) is None
    assert neglect(job, (operator(),), CREATED + timedelta(seconds=31)) == (
        "no operator has looked at it for 31 s: " + UNHEARD.replace("darkroom-system", "gpu")
    )


def test_a_deletion_that_no_operator_looks_at_is_one_as_well(recorded):
    going = {"deletionTimestamp": CREATED.isoformat()}
    later = CREATED + timedelta(minutes=5)
    for name in ("job-training", "job-done"):
        job = recorded(name, metadata=going)
        assert "no operator has looked at it for 5 min" in neglect(parse_job(job), (), later)
        summary = next(one for one in job["status"]["conditions"] if one["type"] == "Succeeded")
        summary["reason"] = "Deleting"
        assert neglect(parse_job(job), (), later) is None


def test_a_job_that_is_over_needs_no_operator(blank, darkroom):
    blank.answer(JOB, "job-done.json")
    assert "next draw with the model" in words(darkroom("describe", "rex").stdout)
    assert all(not call["line"].startswith(OPERATORS) for call in blank.calls)


def test_all_operators_are_named(recorded):
    text = neglect(parse_job(recorded("job-new")), (operator("a"), operator("b", "c")), CREATED)
    assert "(blue in gpu watches a; blue in gpu watches b, c)" in text
