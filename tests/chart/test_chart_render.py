"""The chart renders, for every setting, into objects that Kubernetes' own schemas accept."""

import functools
import json
import re

import kubernetes_validate
import pytest
import yaml

from darkroom_api.status import PersonalizationJobStatus
from darkroom_operator.decisions.observed import Job, Key
from darkroom_operator.launch.manifests.children import network_policy
from darkroom_operator.settings import LauncherKind, Settings, read_settings

RAY = {"launcher": {"kind": "ray-jobs", "address": "http://ray-head.ray.svc:8265"}}

MATRIX = {
    "defaults": {},
    "namespaced": {"watchNamespaces": ["team-a", "team-b"]},
    "one namespace, no progress": {
        "watchNamespaces": ["team-a"],
        "progress": {"enabled": False},
    },
    "three replicas": {
        "operator": {
            "replicas": 3,
            "podDisruptionBudget": {"maxUnavailable": "50%"},
            "topologySpread": {"whenUnsatisfiable": "DoNotSchedule"},
        }
    },
    "its own lease": {"operator": {"leaseName": "darkroom-blue"}},
    "without probes": {"operator": {"probes": {"enabled": False}}},
    "digests": {
        "operator": {"image": {"digest": "sha256:" + "a" * 64}},
        "trainer": {"image": {"digest": "sha256:" + "b" * 64, "pullPolicy": "Never"}},
    },
    "private images": {
        "operator": {
            "image": {"repository": "registry.example:5000/ml/operator", "tag": "main"},
            "imagePullSecrets": ["pull"],
        },
        "trainer": {"imagePullSecrets": ["pull", "other"]},
    },
    "placed": {
        "operator": {
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}
                        ]
                    }
                },
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 10,
                            "podAffinityTerm": {
                                "topologyKey": "topology.kubernetes.io/zone",
                                "labelSelector": {"matchLabels": {"app": "other"}},
                            },
                        }
                    ]
                },
            },
        }
    },
    "decorated": {
        "commonLabels": {"team": "vision"},
        "serviceAccount": {"annotations": {"example.com/role": "darkroom"}},
        "service": {"annotations": {"prometheus.io/scrape": "true"}},
        "operator": {
            "podLabels": {"sidecar": "no"},
            "podAnnotations": {"example.com/note": "a: b, #c"},
            "extraEnv": [
                {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
                {
                    "name": "FROM_SECRET",
                    "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "password"}},
                },
            ],
        },
        "registry": {"annotations": {"example.com/backup": "daily"}},
    },
    "an existing Ray cluster": RAY | {"watchNamespaces": ["team-a"]},
    "an existing Ray cluster with a token": {
        "launcher": RAY["launcher"] | {"tokenSecret": {"name": "ray-token"}},
    },
    "an existing claim": {"registry": {"existingClaim": "shared-models"}},
    "a shared volume": {
        "registry": {
            "size": "2Ti",
            "storageClassName": "nfs",
            "accessModes": ["ReadWriteMany"],
            "namespaces": ["team-a", "team-b"],
        }
    },
    "a service account that is there": {"serviceAccount": {"create": False, "name": "mine"}},
    "renamed": {"fullnameOverride": "photo-lab"},
    "metrics only": {"progress": {"enabled": False}},
    "progress only": {"metrics": {"enabled": False}},
}

EVERYTHING_SET = {
    "watchNamespaces": ["team-a", "team-b"],
    "operator": {
        "port": 8123,
        "leaseName": "blue",
        "tuning": {"workers": 4, "watchSilenceSeconds": 100, "cleanupAttempts": 7},
    },
    "metrics": {"port": 9123},
    "launcher": {
        "kind": "ray-jobs",
        "address": "https://ray.example:8265",
        "tokenSecret": {"name": "ray-token"},
    },
    "trainer": {
        "image": {"repository": "mine/trainer", "tag": "1", "pullPolicy": "Always"},
        "imagePullSecrets": ["one", "two"],
        "rayVersion": "2.58.0",
        "head": {"cpu": "500m", "memory": "1Gi"},
        "worker": {"cpu": "2", "memory": "8Gi"},
        "gpuResource": "amd.com/gpu",
        "scratchSize": "1Gi",
        "fileRoots": ["/data", "/mnt"],
        "graceSeconds": 30,
    },
    "retries": {"backoffSeconds": 1, "backoffMaxSeconds": 2, "preemptionLimit": 3},
}

METRICS = "darkroom-operator"
PROGRESS = "darkroom-operator-progress"
"""The two Services."""

ALL_OFF = {
    "crds": {"install": False},
    "rbac": {"create": False},
    "serviceAccount": {"create": False},
    "operator": {"enabled": False},
    "registry": {"create": False},
}

OWN_SWITCH = {
    "CustomResourceDefinition": {"crds": {"install": False}},
    "ServiceAccount": {"serviceAccount": {"create": False}},
    "ClusterRole": {"rbac": {"create": False}},
    "ClusterRoleBinding": {"rbac": {"create": False}},
    "Role": {"rbac": {"create": False}},
    "RoleBinding": {"rbac": {"create": False}},
    "Deployment": {"operator": {"enabled": False}},
    "Service": {"progress": {"enabled": False}, "metrics": {"enabled": False}},
    "NetworkPolicy": {"networkPolicy": {"enabled": False}},
    "PodDisruptionBudget": {"operator": {"podDisruptionBudget": {"enabled": False}}},
    "PersistentVolumeClaim": {"registry": {"create": False}},
    "ConfigMap": {"discovery": {"publish": False}},
}


@functools.cache
def validate(item, version):
    """Most settings change few objects, and the CRD is large."""
    kubernetes_validate.validate(json.loads(item), version, strict=True)


def kinds(objects):
    return {item["kind"] for item in objects}


def test_lint_finds_nothing(chart):
    out = chart.run("lint", "--strict", chart.folder)
    assert "0 chart(s) failed" in out


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_objects_are_valid_on_the_oldest_and_the_newest_kubernetes(chart, values):
    for item in chart.render(values):
        for version in ("1.30", "1.37"):
            validate(json.dumps(item), version)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_objects_are_named_once_and_labelled(chart, values):
    objects = chart.render(values)
    names = [
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
        for item in objects
    ]
    assert len(names) == len(set(names))
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "darkroom"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/part-of"] == "darkroom"
        assert labels["app.kubernetes.io/name"] == "darkroom"
        assert labels["helm.sh/chart"].startswith("darkroom-")
        assert values.get("commonLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("values", [{}, EVERYTHING_SET], ids=["defaults", "everything"])
def test_helm_reads_the_strings_as_strings(chart, values):
    """To Go's YAML a plain `5e-6` is a number; to Python's it is a string."""
    number = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+")
    for token in yaml.scan(chart.text(values), yaml.CSafeLoader):
        if isinstance(token, yaml.ScalarToken) and token.plain and number.fullmatch(token.value):
            assert not isinstance(yaml.safe_load(token.value), str), token.value


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_rendering_is_stable(chart, values):
    # A map's random order would roll the Deployment at every upgrade.
    assert chart.render(values) == chart.render(dict(values))


@pytest.mark.parametrize("kind", OWN_SWITCH)
def test_every_kind_can_be_switched_off(chart, kind):
    assert kind in kinds(chart.render())
    assert kind not in kinds(chart.render(OWN_SWITCH[kind]))


def test_the_switches_know_every_kind(chart):
    assert kinds(chart.render()) == set(OWN_SWITCH)


def test_everything_switched_off_leaves_nothing(chart):
    assert chart.render(ALL_OFF) == []


def test_a_long_release_name_stays_within_limits(chart):
    release = "a-release-whose-name-is-as-long-as-helm-lets-it-be-53"
    assert len(release) == 53
    for item in chart.render(release=release):
        # A Service is a name in the DNS.
        longest = 63 if item["kind"] == "Service" else 63 + len("darkroom-system-")
        assert len(item["metadata"]["name"]) <= longest
        for value in item["metadata"]["labels"].values():
            assert len(value) <= 63


SHARED = "kube-public", None
"""Namespaces of objects that releases of any namespace have in common; None: no namespace."""


@pytest.mark.parametrize(
    "namespaces", [("team-a", "team-b"), ("a" * 62 + "b", "a" * 63)], ids=["short", "long"]
)
def test_two_releases_of_one_name_do_not_meet(chart, namespaces):
    names = [
        {
            (item["kind"], item["metadata"]["name"])
            for item in chart.render({"crds": {"install": False}}, namespace=namespace)
            if item["metadata"].get("namespace") in SHARED
        }
        for namespace in namespaces
    ]
    assert not names[0] & names[1]


def test_selectors_agree(chart):
    deployment = chart.find("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        chart.find("Service", name=METRICS)["spec"]["selector"],
        chart.find("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        chart.find("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"][
            "matchLabels"
        ],
    ]
    assert all(selector == selectors[0] for selector in selectors)
    assert selectors[0].items() <= labels.items()
    # A selector can't be changed later: nothing that changes with a release may be in it.
    assert "helm.sh/chart" not in selectors[0]
    assert "app.kubernetes.io/version" not in selectors[0]


def test_jobs_find_the_operator_by_its_labels(chart):
    job = Job(
        key=Key("team-a", "rex"),
        uid="1",
        generation=1,
        resource_version="1",
        labels={},
        deleting=False,
        finalizers=frozenset(),
        spec=None,
        problem=None,
        status=PersonalizationJobStatus(),
    )
    settings = read_settings(chart.environment({}))
    to_operator = network_policy(job, settings)["spec"]["egress"][-1]
    labels = chart.find("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert to_operator["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    port = chart.find("Service", name=PROGRESS)["spec"]["ports"][0]["port"]
    assert [item["port"] for item in to_operator["ports"]] == [port]


def test_user_labels_cannot_replace_the_charts(chart):
    own = {"app.kubernetes.io/component": "mine", "app.kubernetes.io/instance": "mine"}
    deployment = chart.find(
        "Deployment", {"commonLabels": own, "operator": {"podLabels": own | {"mine": "yes"}}}
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels["mine"] == "yes"


def test_the_service_leads_to_ports_of_the_pod(chart):
    pod = chart.find("Deployment")["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    (metrics,) = chart.find("Service", name=METRICS)["spec"]["ports"]
    assert metrics["port"] == ports[metrics["targetPort"]]
    (progress,) = chart.find("Service", name=PROGRESS)["spec"]["ports"]
    assert (progress["name"], progress["port"]) == ("progress", ports["http"])
    assert set(ports) == {"http", "metrics"}


def test_standbys_are_not_chosen_for_progress(chart):
    service = chart.find("Service", {"operator": {"replicas": 2}}, name=PROGRESS)["spec"]
    assert "selector" not in service
    # The leader's slice has one address, of the cluster's first family.
    assert service["ipFamilyPolicy"] == "SingleStack"


@pytest.mark.parametrize(
    ("values", "services"),
    [
        ({}, {METRICS, PROGRESS}),
        ({"metrics": {"enabled": False}}, {PROGRESS}),
        ({"progress": {"enabled": False}}, {METRICS}),
        (RAY, {METRICS}),
        ({"operator": {"enabled": False}}, set()),
    ],
    ids=["both", "progress", "metrics", "another Ray cluster's", "no operator"],
)
def test_a_service_is_there_for_what_listens(chart, values, services):
    objects = chart.render(values)
    assert {one["metadata"]["name"] for one in objects if one["kind"] == "Service"} == services


def test_a_rollout_never_leaves_jobs_without_an_operator(chart):
    strategy = chart.find("Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_images_are_the_apps_version_unless_said_otherwise(chart):
    version = yaml.safe_load((chart.folder / "Chart.yaml").read_text())["appVersion"]

    def image(values):
        pod = chart.find("Deployment", values)["spec"]["template"]["spec"]
        return pod["containers"][0]["image"]

    assert image({}) == f"darkroom/operator:{version}"
    assert image({"operator": {"image": {"tag": "main"}}}) == "darkroom/operator:main"
    digest = "sha256:" + "0" * 64
    both = {"operator": {"image": {"tag": "main", "digest": digest}}}
    assert image(both) == f"darkroom/operator@{digest}"


def test_settings_reach_the_operator(chart):
    found = read_settings(chart.environment(EVERYTHING_SET))
    assert found == Settings(
        namespaces=("team-a", "team-b"),
        pod_name="pod-1",
        pod_namespace="darkroom-system",
        lease_name="blue",
        port=8123,
        metrics_port=9123,
        launcher=LauncherKind.RAY_JOBS,
        ray_address="https://ray.example:8265",
        ray_token_file="/var/run/secrets/darkroom.dev/ray/token",
        trainer_image="mine/trainer:1",
        image_pull_policy="Always",
        image_pull_secrets=("one", "two"),
        ray_version="2.58.0",
        head_cpu="500m",
        head_memory="1Gi",
        worker_cpu="2",
        worker_memory="8Gi",
        gpu_resource="amd.com/gpu",
        scratch_size="1Gi",
        file_roots=("/data", "/mnt"),
        grace_seconds=30,
        workers=4,
        watch_silence_seconds=100,
        cleanup_attempts=7,
        backoff_seconds=1,
        backoff_max_seconds=2,
        preemption_limit=3,
    )


def test_the_ray_of_the_chart_is_the_ray_of_the_image(chart):
    pinned = re.search(
        r"^ray==(\S+)", (chart.folder.parents[1] / "requirements/trainer.txt").read_text(), re.M
    )
    assert chart.environment({})["DARKROOM_RAY_VERSION"] == pinned[1]


def test_the_crd_is_the_projects_own_and_stays(chart):
    source = yaml.safe_load(
        (chart.folder.parents[1] / "crds" / "darkroom.dev_personalizationjobs.yaml").read_text()
    )
    for keep in (True, False):
        crd = chart.find("CustomResourceDefinition", {"crds": {"keep": keep}})
        metadata = crd.pop("metadata")
        assert metadata["name"] == source["metadata"]["name"]
        assert metadata.get("annotations", {}) == (
            {"helm.sh/resource-policy": "keep"} if keep else {}
        )
        assert crd == {key: value for key, value in source.items() if key != "metadata"}


def test_models_outlive_the_release(chart):
    claim = chart.find("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["metadata"]["name"] == "models"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"darkroom-system"}),
        ({"watchNamespaces": ["team-a", "team-b"]}, {"team-a", "team-b"}),
        ({"registry": {"namespaces": ["one"]}}, {"one"}),
        ({"watchNamespaces": ["a", "b"], "registry": {"namespaces": ["b"]}}, {"b"}),
        ({"registry": {"existingClaim": "mine"}}, set()),
    ],
)
def test_a_registry_is_where_the_jobs_are(chart, values, expected):
    claims = [item for item in chart.render(values) if item["kind"] == "PersistentVolumeClaim"]
    assert {claim["metadata"]["namespace"] for claim in claims} == expected
