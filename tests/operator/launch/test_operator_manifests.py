"""What the operator makes, whole: a job file in `data/input`, the manifests in `data/output`.

After a change that is meant, write the new files: `DARKROOM_WRITE_GOLDEN=1 pytest tests/operator/...`.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from darkroom_api.job import Placement
from darkroom_api.load import load_job
from darkroom_api.names import FINALIZER
from darkroom_api.status import PersonalizationJobStatus
from darkroom_operator.decisions.observed import Job, Key
from darkroom_operator.launch.manifests.children import children
from darkroom_operator.launch.manifests.cleanup import cleanup_job
from darkroom_operator.launch.manifests.rayjob import ray_job
from darkroom_operator.settings import Settings
from darkroom_testing.in_memory.builders import SETTINGS, UID

DATA = Path(__file__).parent / "data"
INPUTS = sorted(path.stem for path in (DATA / "input").glob("*.yaml"))
SMALLEST = "miniature"


def job_of(name) -> Job:
    document = load_job(DATA / "input" / f"{name}.yaml")
    extra = document.metadata.model_extra or {}
    return Job(
        key=Key(document.metadata.namespace, document.metadata.name),
        uid=UID,
        generation=1,
        resource_version="1",
        labels=extra.get("labels", {}),
        deleting=False,
        finalizers=frozenset([FINALIZER]),
        spec=document.spec,
        problem=None,
        status=PersonalizationJobStatus(),
    )


def made_for(name, settings=SETTINGS):
    """Every manifest of a job's second attempt."""
    job = job_of(name)
    attempt = f"{job.key.name}-2"
    found = [*children(job, job.spec, settings), ray_job(job, job.spec, attempt, settings)]
    if job.spec.output.deletion_policy == "Delete":
        found.append(cleanup_job(job, job.spec, 1, settings))
    return found


class _Dumper(yaml.SafeDumper):
    """Writes every value in full, and long texts as they are read."""

    def ignore_aliases(self, data):
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def dumped(manifests):
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=120)


def pods_of(manifests):
    """Pod specs with their place, of RayJobs and Jobs alike."""
    for manifest in manifests:
        if manifest["kind"] == "RayJob":
            cluster = manifest["spec"]["rayClusterSpec"]
            yield cluster["headGroupSpec"]["template"]["spec"]
            for group in cluster["workerGroupSpecs"]:
                yield group["template"]["spec"]
        if manifest["kind"] == "Job":
            yield manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", INPUTS)
def test_the_manifests_are_the_golden_ones(name):
    text = dumped(made_for(name))
    golden = DATA / "output" / f"{name}.yaml"
    if os.environ.get("DARKROOM_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", INPUTS)
def test_every_pod_is_restricted(name):
    """Pod Security's level `restricted`, and a root file system that can't be written besides."""
    pods = list(pods_of(made_for(name)))
    assert len(pods) >= 2
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 65532)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {
                "emptyDir", "configMap", "persistentVolumeClaim", "secret", "projected",
            }  # fmt: skip
        for container in pod["containers"]:
            inner = container["securityContext"]
            assert inner["allowPrivilegeEscalation"] is False
            assert inner["readOnlyRootFilesystem"] is True
            assert inner["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", INPUTS)
def test_every_ray_cluster_asks_for_a_token_and_has_a_network_policy(name):
    kinds = {manifest["kind"]: manifest for manifest in made_for(name)}
    cluster = kinds["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    selector = kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert selector.items() <= group["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("name", INPUTS)
def test_a_ray_job_is_one_attempt_whose_suspension_is_kueues(name):
    spec = made_for(name)[3]["spec"]
    assert (spec["backoffLimit"], spec["submissionMode"]) == (0, "HTTPMode")
    assert spec["shutdownAfterJobFinishes"] is True
    assert "suspend" not in spec


@pytest.mark.parametrize("name", INPUTS)
def test_everything_goes_when_the_job_goes(name):
    for manifest in made_for(name):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == (
            "PersonalizationJob",
            UID,
            True,
        )
        assert "blockOwnerDeletion" not in owner


def test_the_same_job_gives_the_same_manifests():
    assert made_for(SMALLEST) == made_for(SMALLEST)


def test_secrets_are_named_and_mounted_and_never_in_the_environment():
    head, worker, _ = pods_of(made_for("everything"))
    for pod in (head, worker):
        assert {"secretName": "hub-token", "defaultMode": 0o440} in [
            volume.get("secret") for volume in pod["volumes"]
        ]
        for variable in pod["containers"][0]["env"]:
            assert "secretKeyRef" not in variable.get("valueFrom", {})


def test_a_users_variable_does_not_replace_one_of_ours():
    env = next(pods_of(made_for("everything")))["containers"][0]["env"]
    names = [variable["name"] for variable in env]
    assert len(names) == len(set(names))
    (home,) = [variable for variable in env if variable["name"] == "HOME"]
    assert home["value"] == "/tmp"


def test_without_a_progress_url_there_is_no_token():
    settings = replace(SETTINGS, progress_url="")
    for pod in pods_of(made_for(SMALLEST, settings)):
        assert "progress" not in [volume["name"] for volume in pod["volumes"]]


@pytest.mark.parametrize(
    ("placement", "found"),
    [
        ("Pack", "preferredDuringSchedulingIgnoredDuringExecution"),
        ("StrictPack", "requiredDuringSchedulingIgnoredDuringExecution"),
        ("Spread", "topologySpreadConstraints"),
    ],
)
def test_workers_are_placed_as_the_job_says(placement, found):
    job = job_of("two-gpus")
    scale = job.spec.scale.model_copy(update={"placement": Placement(placement)})
    spec = job.spec.model_copy(update={"scale": scale})
    cluster = ray_job(job, spec, "rex-1", Settings())["spec"]["rayClusterSpec"]
    worker = cluster["workerGroupSpecs"][0]["template"]["spec"]
    assert found in {**worker, **worker.get("affinity", {}).get("podAffinity", {})}
    assert "affinity" not in cluster["headGroupSpec"]["template"]["spec"]
