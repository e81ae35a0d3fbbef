"""What the operator is allowed: restricted pods, and no right more than it uses."""

import pytest

from darkroom_api.names import ATTEMPT_LABEL, OPERATORS_NAMESPACE

JOBS = {
    ("darkroom.dev", "personalizationjobs"): {"get", "list", "watch", "patch", "delete"},
    ("darkroom.dev", "personalizationjobs/status"): {"patch"},
    ("ray.io", "rayjobs"): {"get", "list", "watch", "create", "delete"},
    ("", "pods"): {"list", "watch"},
    ("", "events"): {"list"},
    ("", "namespaces"): {"get"},
    ("", "configmaps"): {"get", "create", "patch"},
    ("networking.k8s.io", "networkpolicies"): {"get", "create", "patch"},
    ("policy", "poddisruptionbudgets"): {"get", "create", "patch"},
    ("batch", "jobs"): {"get", "create"},
    ("events.k8s.io", "events"): {"create"},
}
DISCOVERY = {("apiextensions.k8s.io", "customresourcedefinitions"): {"list", "watch"}}
REVIEW = {("authentication.k8s.io", "tokenreviews"): {"create"}}
RELEASE = {("darkroom.dev", "personalizationjobs"): {"patch"}, ("", "namespaces"): {"get"}}
RIVALS = {("coordination.k8s.io", "leases"): {"get"}}
LEASE = {("coordination.k8s.io", "leases"): {"create", "get", "update"}}
PROGRESS = {("discovery.k8s.io", "endpointslices"): {"get", "create", "patch"}}

STRICT = {"watchNamespaces": ["team-a"], "rbac": {"releaseDeletedNamespaces": False}}
"""Nothing in the cluster but what progress needs."""

SETTINGS = [
    {},
    {"watchNamespaces": ["team-a"]},
    {"progress": {"enabled": False}},
    STRICT,
    {"launcher": {"kind": "ray-jobs", "address": "http://ray:8265"}},
    {"operator": {"probes": {"enabled": False}}},
]


def granted(rules):
    """Verbs by (group, resource)."""
    verbs = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                verbs.setdefault((group, resource), set()).update(rule["verbs"])
    return verbs


def operator_roles(chart, values):
    """The rules of the roles that are bound to the operator, by (kind, namespace)."""
    objects = chart.render({"discovery": {"publish": False}} | values)
    roles = {
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]): item["rules"]
        for item in objects
        if item["kind"] in ("Role", "ClusterRole")
    }
    bound = {}
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        assert binding["subjects"] == [
            {
                "kind": "ServiceAccount",
                "name": "darkroom-operator",
                "namespace": "darkroom-system",
            }
        ]
        namespace = binding["metadata"].get("namespace")
        kind = binding["roleRef"]["kind"]
        rules = roles[kind, namespace, binding["roleRef"]["name"]]
        bound.setdefault((kind, namespace), []).extend(rules)
    return bound


def test_rights_in_the_whole_cluster(chart):
    roles = operator_roles(chart, {})
    assert set(roles) == {("ClusterRole", None), ("Role", "darkroom-system")}
    assert granted(roles["ClusterRole", None]) == JOBS | DISCOVERY | REVIEW | RIVALS
    assert granted(roles["Role", "darkroom-system"]) == LEASE | PROGRESS


def test_rights_in_some_namespaces(chart):
    roles = operator_roles(chart, {"watchNamespaces": ["team-a", "team-b"]})
    assert granted(roles.pop(("ClusterRole", None))) == REVIEW | RIVALS | RELEASE
    assert granted(roles.pop(("Role", "darkroom-system"))) == LEASE | PROGRESS
    assert {key: granted(rules) for key, rules in roles.items()} == {
        ("Role", "team-a"): JOBS,
        ("Role", "team-b"): JOBS,
    }


def test_the_releases_own_namespace_can_be_watched(chart):
    roles = operator_roles(chart, {"watchNamespaces": ["darkroom-system"]})
    assert granted(roles["Role", "darkroom-system"]) == JOBS | LEASE | PROGRESS


def test_nothing_is_granted_in_the_cluster_when_nothing_is_needed(chart):
    values = STRICT | {"progress": {"enabled": False}}
    assert set(operator_roles(chart, values)) == {("Role", "team-a"), ("Role", "darkroom-system")}


@pytest.mark.parametrize(
    ("values", "left"),
    [
        (STRICT, REVIEW | RIVALS),
        (
            {"watchNamespaces": ["team-a"], "progress": {"enabled": False}},
            RELEASE | RIVALS,
        ),
    ],
    ids=["not the jobs of deleted namespaces", "no progress"],
)
def test_each_right_in_the_cluster_can_be_withheld(chart, values, left):
    assert granted(operator_roles(chart, values)["ClusterRole", None]) == left


def test_the_jobs_of_deleted_namespaces_need_no_right_of_their_own_where_all_are_watched(chart):
    kept, withheld = (
        operator_roles(chart, {"rbac": {"releaseDeletedNamespaces": value}})
        for value in (True, False)
    )
    assert kept == withheld


def test_every_user_may_read_what_is_published_and_nobody_may_write_it(chart):
    objects = [
        one for one in chart.render() if one["metadata"].get("namespace") == OPERATORS_NAMESPACE
    ]
    (role,) = (one for one in objects if one["kind"] == "Role")
    (binding,) = (one for one in objects if one["kind"] == "RoleBinding")
    assert granted(role["rules"]) == {("", "configmaps"): {"get", "list"}}
    assert [one["name"] for one in binding["subjects"]] == ["system:authenticated"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    without = chart.render({"rbac": {"create": False}})
    shared = [one for one in without if one["metadata"].get("namespace") == OPERATORS_NAMESPACE]
    assert [one["kind"] for one in shared] == ["ConfigMap"]


def test_an_existing_ray_cluster_needs_fewer_rights(chart):
    values = {"launcher": {"kind": "ray-jobs", "address": "http://ray:8265"}}
    rights = granted(operator_roles(chart, values)["ClusterRole", None])
    needed = ("darkroom.dev", "personalizationjobs"), ("darkroom.dev", "personalizationjobs/status")
    needed += ("", "namespaces"), ("batch", "jobs"), ("events.k8s.io", "events")
    photos = {("", "configmaps"): {"get"}}
    assert rights == {key: JOBS[key] for key in needed} | DISCOVERY | RIVALS | photos


def test_only_its_own_lease_and_slice_can_be_written(chart):
    values = {"operator": {"leaseName": "mine"}}
    unnamed, lease, progress = operator_roles(chart, values)["Role", "darkroom-system"]
    assert (unnamed["resources"], unnamed["verbs"]) == (["leases"], ["create"])
    assert lease["resourceNames"] == ["mine"]
    service = "darkroom-operator-progress"
    assert chart.find("Service", values, name=service)
    assert progress["resourceNames"] == [f"{service}-leader"]


@pytest.mark.parametrize("values", SETTINGS, ids=str)
def test_no_role_reaches_secrets_or_everything(chart, values):
    for item in chart.render(values):
        for rule in item.get("rules", []):
            named = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not named & {"*", "secrets", "pods/exec", "impersonate", "escalate", "bind"}
            assert not any(resource.startswith("secrets") for resource in rule["resources"])


def test_users_get_the_jobs_with_kubernetes_own_roles(chart):
    roles = {
        next(
            key.rpartition("-to-")[2]
            for key in item["metadata"]["labels"]
            if key.startswith("rbac.authorization.k8s.io/aggregate-to-")
        ): granted(item["rules"])
        for item in chart.render()
        if "rbac.authorization.k8s.io" in str(item["metadata"]["labels"])
    }
    assert set(roles["view"]["darkroom.dev", "personalizationjobs"]) == {"get", "list", "watch"}
    # A status that its user can write would be no status.
    assert set(roles["edit"]) == {("darkroom.dev", "personalizationjobs")}
    off = chart.render({"rbac": {"aggregateToUserRoles": False}})
    assert "aggregate-to" not in str(off)


@pytest.mark.parametrize("values", SETTINGS, ids=str)
def test_pods_meet_the_restricted_standard(chart, values):
    pod = chart.find("Deployment", values)["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= {
        "emptyDir",
        "secret",
    }
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert all(port["containerPort"] >= 1024 for port in container["ports"])


def test_only_tmp_can_be_written(chart):
    pod = chart.find("Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]


def test_probes_are_the_operators(chart):
    container = chart.find("Deployment")["spec"]["template"]["spec"]["containers"][0]
    paths = {
        probe: container[probe]["httpGet"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }


def test_the_token_comes_from_the_pod_not_the_account(chart):
    assert chart.find("ServiceAccount")["automountServiceAccountToken"] is False
    pod = chart.find("Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True


def test_a_ray_token_is_mounted_by_the_kubelet(chart):
    values = {
        "launcher": {
            "kind": "ray-jobs",
            "address": "http://ray:8265",
            "tokenSecret": {"name": "ray-token", "key": "auth_token"},
        }
    }
    pod = chart.find("Deployment", values)["spec"]["template"]["spec"]
    mount = next(item for item in pod["containers"][0]["volumeMounts"] if item["name"] != "tmp")
    assert mount["readOnly"] is True
    environment = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert environment["DARKROOM_RAY_TOKEN_FILE"] == f"{mount['mountPath']}/token"
    assert pod["volumes"][1]["secret"]["items"] == [{"key": "auth_token", "path": "token"}]


def test_the_network_is_closed_but_for_what_is_needed(chart):
    policy = chart.find("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    progress, metrics = policy["ingress"]
    assert progress["ports"] == [{"port": "http", "protocol": "TCP"}]
    assert progress["from"][0]["podSelector"] == {
        "matchExpressions": [{"key": ATTEMPT_LABEL, "operator": "Exists"}]
    }
    assert metrics["ports"] == [{"port": "metrics", "protocol": "TCP"}]
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [
        *(53, 53),
        *(443, 6443),
    ]


def test_the_network_opens_to_named_namespaces_only(chart):
    values = {
        "watchNamespaces": ["team-a"],
        "networkPolicy": {"metricsNamespaces": ["monitoring"], "apiServerPorts": [7443]},
    }
    policy = chart.find("NetworkPolicy", values)["spec"]
    names = [
        rule["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
        for rule in policy["ingress"]
    ]
    assert names == [["team-a"], ["monitoring"]]
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 7443]


@pytest.mark.parametrize(
    ("address", "port"),
    [("http://ray.example:8265", 8265), ("https://ray.example/", 443), ("http://ray", 80)],
)
def test_the_network_opens_to_an_existing_ray_cluster(chart, address, port):
    values = {"launcher": {"kind": "ray-jobs", "address": address}}
    policy = chart.find("NetworkPolicy", values)["spec"]
    assert policy["egress"][-1] == {"ports": [{"port": port, "protocol": "TCP"}]}
    # Its pods are not ours, and have no token to report with.
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == ["metrics"]


def test_nothing_is_open_that_is_switched_off(chart):
    values = {"progress": {"enabled": False}, "metrics": {"enabled": False}}
    assert chart.find("NetworkPolicy", values)["spec"]["ingress"] is None
    container = chart.find("Deployment", values)["spec"]["template"]["spec"]["containers"][0]
    assert [port["name"] for port in container["ports"]] == ["http"]
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert environment["DARKROOM_PROGRESS_URL"] == ""
