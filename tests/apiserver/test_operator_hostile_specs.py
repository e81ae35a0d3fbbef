"""Whatever users write, on a real apiserver: it is refused by the name of a field, or it harms nobody else.

Specs are generated from the schema, from the models, with damage and close to each rule.
"""

import copy
import http.client

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom_testing.apiserver.apiserver_world import (  # noqa: F401 - fixtures
    LABEL,
    MERGE,
    installation_fixture,
    job_document,
    jobs_path,
    operator_fixture,
    ray_jobs_path,
    world_fixture,
)
from darkroom_testing.apiserver.operator_process import ROOT
from darkroom_testing.cluster.cluster import wait_for
from darkroom_testing.job_strategies import (
    NEAR_RULES,
    damaged,
    node_values,
    objects,
    paths,
    valid_specs,
)

SPECS = 75
MANY_SPECS = 250


def with_examples(number):
    """As many examples, the same in each run."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


TIME = "2026-01-01T00:00:00Z"


def schema_of(part):
    crd = yaml.safe_load((ROOT / "crds/darkroom.dev_personalizationjobs.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"][part]


SPEC = schema_of("spec")
SPECS_OF_SCHEMA = objects(SPEC)
PLACES = list(paths(SPEC))
RUN_POLICY = {
    field: node_values(schema)
    for field, schema in SPEC["properties"]["runPolicy"]["properties"].items()
}


@st.composite
def hostile_specs(draw):
    """A spec that somebody might write who means no good, or doesn't know better."""
    kind = draw(st.sampled_from(["schema", "valid", "damaged", "close"]))
    if kind == "schema":
        return draw(SPECS_OF_SCHEMA)
    spec = copy.deepcopy(draw(valid_specs()))
    if kind == "damaged":
        for _ in range(draw(st.integers(1, 3))):
            damaged(draw, spec, PLACES)
    if kind == "close":
        section = draw(st.sampled_from(sorted(NEAR_RULES)))
        fields = draw(st.fixed_dictionaries({}, optional=NEAR_RULES[section]))
        spec[section] = spec.get(section, {}) | fields
    return spec


class Hostile:
    """Sends what it likes, and keeps the answers."""

    def __init__(self, world):
        self.world, self.taken, self.refused = world, {}, []

    def create(self, spec):
        name = f"hostile-{len(self.taken) + len(self.refused)}"
        document = job_document(self.world.namespace, name) | {"spec": spec}
        code, answer = self.world.admin.send("POST", jobs_path(self.world.namespace), document)
        if code == http.client.CREATED:
            self.taken[name] = answer
        else:
            self.refused.append((spec, answer))
            assert_names_a_field(code, answer)

    def change(self, name, **run_policy):
        path = f"{jobs_path(self.world.namespace)}/{name}"
        patch = {"spec": {"runPolicy": run_policy}}
        code, answer = self.world.admin.send("PATCH", path, patch, MERGE)
        # One may be gone: its time to live can be 0.
        if code not in (http.client.OK, http.client.NOT_FOUND):
            assert_names_a_field(code, answer)


def assert_names_a_field(code, answer):
    """An error of validation that says where."""
    assert code == http.client.UNPROCESSABLE_ENTITY, answer
    causes = answer["details"]["causes"]
    assert causes
    assert all(cause["field"] for cause in causes), answer


def assert_the_neighbour_is_well(world, name):
    """A job that somebody else wants is run as if nothing was."""
    world.create(name)
    wait_for(lambda: f"{name}-1" in world.admin.ray_jobs(world.namespace), name, seconds=20)
    world.says(f"{name}-1", "Complete", "SUCCEEDED")
    world.word("Completed", name)


@pytest.mark.parametrize("specs", [SPECS, pytest.param(MANY_SPECS, marks=pytest.mark.exhaustive)])
def test_hostile_specs_are_refused_by_field_or_harm_nobody(operator, world, specs):
    hostile = Hostile(world)

    @with_examples(specs)
    @given(spec=hostile_specs())
    def write(spec):
        hostile.create(spec)

    @with_examples(specs)
    @given(data=st.data())
    def change(data):
        name = data.draw(st.sampled_from(names))
        field = data.draw(st.sampled_from(sorted(RUN_POLICY)))
        hostile.change(name, **{field: data.draw(RUN_POLICY[field])})

    write()
    names = sorted(hostile.taken)
    change()
    assert_the_neighbour_is_well(world, "neighbour")

    def behind():
        return [
            job["metadata"]["name"]
            for job in world.admin.jobs(world.namespace)
            if job.get("status", {}).get("observedGeneration") != job["metadata"]["generation"]
        ]

    wait_for(lambda: not behind(), "look at each hostile job")
    print(f"{len(hostile.taken)} taken, {len(hostile.refused)} refused")
    assert min(len(hostile.taken), len(hostile.refused)) > specs / 5
    for name in hostile.taken:
        world.admin.send("DELETE", f"{jobs_path(world.namespace)}/{name}", {})
    left = ["neighbour-1"]
    wait_for(lambda: list(world.admin.ray_jobs(world.namespace)) == left, "end of the others")
    assert operator.healthy()


@pytest.mark.exhaustive
def test_any_text_gets_into_the_status(operator, world):
    """Texts of others end up there: of libraries that like pictures, of terminals, of databases."""
    world.create()
    world.ray_job()
    text = "🤗 say \x7f \x85 \u2028 \ufeff \uffff 'no' \\ud83d \"x\" \t# {a: b}"
    message = f"darkroom: TooFewPhotos: {text}"
    world.says("mascot-1", "Failed", "FAILED", reason="AppFailed", message=message)
    world.word("TooFewPhotos")
    (said,) = (
        one["message"] for one in world.job()["status"]["conditions"] if one["type"] == "Succeeded"
    )
    assert said == text


def odd_ray_jobs(namespace):
    """RayJobs that say they belong to a job: KubeRay's schema lets all of them pass."""
    labels = {LABEL: "mascot"}
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "none"}
    for number, (metadata, rest) in enumerate(
        [
            ({}, {}),
            ({}, {"spec": {}}),
            ({"labels": {LABEL: ""}}, {"spec": {"suspend": True}}),
            ({"ownerReferences": [owner]}, {"spec": {"entrypoint": "true"}}),
        ]
    ):
        name = {"name": f"odd-{number}", "namespace": namespace, "labels": labels}
        yield {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": name | metadata, **rest}


@pytest.mark.exhaustive
def test_odd_objects_with_our_labels_harm_nobody(installation, operator, world):
    for ray_job in odd_ray_jobs(world.namespace):
        code, answer = world.admin.send("POST", ray_jobs_path(world.namespace), ray_job)
        assert code == http.client.CREATED, answer
    assert_the_neighbour_is_well(world, "neighbour")
    assert operator.stop() == 0
    again = installation.start(DARKROOM_RESYNC_SECONDS="1")
    again.wait("leading")
    assert_the_neighbour_is_well(world, "another")
    assert again.healthy()


ODD_ATTEMPTS = ("x", "mascot-", "mascot-one", "other-7", "../../configmaps/a", "-1", "a/status?b=c")


@pytest.mark.exhaustive
def test_odd_statuses_harm_nobody(operator, world):
    """Somebody who may write statuses is trusted, but not with the operator's rights."""
    ended = {"endTime": TIME, "reason": "WorkerDied"}
    odd = [(name, more) for name in ODD_ATTEMPTS for more in ({}, ended)]
    for number, _ in enumerate(odd):
        world.create(f"job{number}", runPolicy={"suspend": True})
    for number, (attempt, more) in enumerate(odd):
        name = f"job{number}"
        world.word("Suspended", name)
        status = {"attempts": [{"name": attempt, "startStep": 0, "startTime": TIME, **more}]}
        path = f"{jobs_path(world.namespace)}/{name}/status"
        code, answer = world.admin.send("PATCH", path, {"status": status}, MERGE)
        assert code == http.client.OK, answer
        world.patch(name, suspend=False)
    first = {f"job{number}-1" for number, _ in enumerate(odd)}
    wait_for(lambda: first <= set(world.admin.ray_jobs(world.namespace)), "a first attempt of each")
    assert_the_neighbour_is_well(world, "neighbour")
