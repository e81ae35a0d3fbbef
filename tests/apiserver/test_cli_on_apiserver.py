"""The command against a real apiserver with our CRD; no operator runs, the test writes its status."""

import json
import re
import threading
from pathlib import Path

import pytest
from PIL import Image

from darkroom.cluster.kubectl import Kubectl, KubectlError
from darkroom_testing.cluster.cluster import wait_for

CRD = Path(__file__).parents[2] / "crds" / "darkroom.dev_personalizationjobs.yaml"
TIME = "2026-11-25T10:00:00Z"


@pytest.fixture(scope="module")
def cluster(api_cluster):
    crd = f"--filename={CRD}"
    api_cluster.kubectl("apply", "--server-side", crd)
    api_cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", crd)
    return api_cluster


@pytest.fixture
def namespace(cluster, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("PATH", str(Path(cluster.kubectl_command).parent), prepend=":")
    with cluster.namespace() as name:
        yield name


@pytest.fixture
def job(valid_job, tmp_path):
    text = re.sub(r"maxSteps: \d+", "maxSteps: 150", valid_job.read_text())
    valid_job.write_text(text.replace("uri: file:photos", "configMap: rex-photos"))
    (tmp_path / "photos").mkdir()
    for number in range(3):
        color = (80 * number, 90, 200)
        Image.new("RGB", (400, 300), color).save(tmp_path / "photos" / f"p{number}.png")
    return valid_job


@pytest.fixture
def photos(job, tmp_path):
    """The options that store the photos of the job."""
    return ("--photos", tmp_path / "photos")


def stored(cluster, namespace):
    """The ConfigMap of the photos: its labels and the names of its owners."""
    found = cluster.get("configmap", "rex-photos", f"--namespace={namespace}")
    if found is None:
        return None
    metadata = found["metadata"]
    owners = sorted(one["name"] for one in metadata.get("ownerReferences", []))
    return metadata.get("labels", {}), owners


def named(job, name):
    """The same job under another name."""
    file = job.with_name(f"{name}.yaml")
    file.write_text(job.read_text().replace("name: rex", f"name: {name}", 1))
    return file


OURS = {"app.kubernetes.io/managed-by": "darkroom", "darkroom.dev/job": "rex"}


def says(cluster, namespace, reason, status, message):
    """What the operator would write."""
    condition = {"type": "Succeeded", "status": status, "reason": reason, "message": message}
    value = {"conditions": [{**condition, "lastTransitionTime": TIME}]}
    where = ["personalizationjob", "rex", f"--namespace={namespace}", "--subresource=status"]
    cluster.kubectl("patch", *where, "--type=merge", f"--patch={json.dumps({'status': value})}")


def test_a_job_from_apply_to_cancel(cluster, namespace, job, tmp_path, darkroom):
    here = ("--namespace", namespace)
    done = darkroom("apply", job, "--photos", tmp_path / "photos", *here)
    assert done.exit_code == 0, done.stderr
    assert f"applied rex in namespace {namespace}" in done.stdout
    photos = cluster.get("configmap", "rex-photos", f"--namespace={namespace}")
    assert sorted(photos["binaryData"]) == ["001-p0.jpg", "002-p1.jpg", "003-p2.jpg"]
    managed = cluster.get("pj", "rex", f"--namespace={namespace}", "--show-managed-fields")
    (field,) = managed["metadata"]["managedFields"]
    assert (field["manager"], field["operation"]) == ("darkroom", "Apply")
    assert darkroom("apply", job, "--photos", tmp_path / "photos", *here).exit_code == 0

    done = darkroom("suspend", "rex", *here)
    assert done.stdout == "rex does not start until: darkroom resume rex\n"
    assert cluster.get("pj", "rex", f"--namespace={namespace}")["spec"]["runPolicy"]["suspend"]
    assert darkroom("apply", job, *here).exit_code == 0  # the file says nothing about suspension
    done = darkroom("suspend", "rex", *here)
    assert (done.exit_code, "rex is suspended already" in done.stderr) == (1, True)
    assert darkroom("resume", "rex", *here).exit_code == 0

    says(cluster, namespace, "Unschedulable", "Unknown", "0/3 nodes have a GPU")
    done = darkroom("describe", "rex", *here)
    assert "Unschedulable: 0/3 nodes have a GPU" in done.stdout
    assert "add nodes, or ask for less" in done.stdout

    done = darkroom("cancel", "rex", "--yes", *here)
    assert done.exit_code == 0
    assert cluster.get("pj", "rex", f"--namespace={namespace}") is None
    done = darkroom("describe", "rex", *here)
    assert f"there is no job rex in namespace {namespace}" in done.stderr


def test_a_watch_ends_with_the_job(cluster, namespace, job, darkroom):
    assert darkroom("apply", job, "--namespace", namespace).exit_code == 0
    arguments = (cluster, namespace, "DiskFull", "False", "no room on /models")
    later = threading.Timer(2, says, arguments)
    later.start()
    done = darkroom("watch", "rex", "--namespace", namespace)
    later.join()
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "rex: Pending, step 0 of 150",
        "rex: DiskFull, step 0 of 150: no room on /models",
    ]
    assert done.stderr.startswith("rex has failed: no room on /models; make room")


def test_what_the_apiserver_refuses_is_said(namespace, job, darkroom):
    here = ("--namespace", namespace)
    assert darkroom("apply", job, *here).exit_code == 0
    job.write_text(job.read_text().replace("maxSteps: 150", "maxSteps: 160"))
    done = darkroom("apply", job, *here)
    assert done.exit_code == 1
    assert "can't be changed after creation: create a new job with another name" in done.stderr
    done = darkroom("describe", "max", *here)
    assert "there is no job max" in done.stderr
    done = darkroom("watch", "max", *here)
    assert "there is no job max" in done.stderr


def test_a_field_that_somebody_else_set_is_taken_over_only_by_force(
    cluster, namespace, job, darkroom
):
    here = ("--namespace", namespace)
    job.write_text(f"{job.read_text().rstrip()}\n  runPolicy:\n    suspend: false\n")
    assert darkroom("apply", job, *here).exit_code == 0
    assert darkroom("suspend", "rex", *here).exit_code == 0
    done = darkroom("apply", job, *here)
    assert done.exit_code == 1
    assert "or take them over with --force" in done.stderr
    assert darkroom("apply", job, "--force", *here).exit_code == 0
    assert not cluster.get("pj", "rex", f"--namespace={namespace}")["spec"]["runPolicy"]["suspend"]


def test_photos_go_with_the_last_of_their_jobs(cluster, namespace, job, photos, darkroom):
    here = ("--namespace", namespace)
    for _ in range(2):
        done = darkroom("apply", job, *photos, *here)
        assert done.exit_code == 0, done.stderr
        assert "ConfigMap rex-photos with its photos goes too" in done.stdout
        assert stored(cluster, namespace) == (OURS, ["rex"])
    done = darkroom("apply", named(job, "max"), *photos, *here)
    assert "ConfigMap rex-photos with its photos stays for rex" in done.stdout
    assert stored(cluster, namespace) == (OURS, ["max", "rex"])
    done = darkroom("cancel", "rex", "--yes", *here)
    assert "ConfigMap rex-photos with its photos stays for max" in done.stdout
    wait_for(lambda: stored(cluster, namespace) == (OURS, ["max"]), "rex to give the photos up")
    done = darkroom("cancel", "max", "--yes", *here)
    assert "ConfigMap rex-photos with its photos goes too" in done.stdout
    wait_for(lambda: stored(cluster, namespace) is None, "the photos to go with max")


def test_photos_are_owned_anew_by_a_job_that_is_applied_again(
    cluster, namespace, job, photos, darkroom
):
    here = ("--namespace", namespace)
    for _ in range(5):  # the garbage collector may be anywhere between the steps of apply
        assert darkroom("apply", job, *photos, *here).exit_code == 0
        assert darkroom("cancel", "rex", "--yes", *here).exit_code == 0
    done = darkroom("apply", job, *photos, *here)
    assert (done.exit_code, done.stderr) == (0, "")
    uid = cluster.get("pj", "rex", f"--namespace={namespace}")["metadata"]["uid"]
    found = cluster.get("configmap", "rex-photos", f"--namespace={namespace}")
    assert [one["uid"] for one in found["metadata"]["ownerReferences"]] == [uid]
    assert len(found["binaryData"]) == 3


def test_kept_photos_stay_until_the_command_that_cancel_names(
    cluster, namespace, job, photos, darkroom
):
    here = ("--namespace", namespace)
    assert darkroom("apply", job, *photos, *here).exit_code == 0
    assert darkroom("apply", job, *photos, "--keep-photos", *here).exit_code == 0
    assert stored(cluster, namespace) == (OURS, [])
    done = darkroom("cancel", "rex", "--yes", *here)
    command = f"kubectl delete configmap rex-photos --namespace {namespace}"
    assert done.stdout.endswith(f"stays; to delete it: {command}\n")
    assert stored(cluster, namespace) == (OURS, [])
    cluster.kubectl(*command.split()[1:])


def test_a_config_map_of_the_user_stays_as_it_is(cluster, namespace, job, photos, darkroom):
    here = ("--namespace", namespace)
    where = f"--namespace={namespace}"
    literal = ["--from-literal=note.txt=mine", "--from-literal=more.txt=too"]
    cluster.kubectl("create", "configmap", "rex-photos", where, *literal)
    assert "holds something else" in darkroom("apply", job, *photos, *here).stderr
    assert darkroom("apply", job, *photos, "--force", *here).exit_code == 0
    assert stored(cluster, namespace) == ({}, [])
    found = cluster.get("configmap", "rex-photos", where)
    assert "data" not in found
    assert len(found["binaryData"]) == 3
    done = darkroom("apply", job, *photos, *here)
    assert "ConfigMap rex-photos with its photos stays" in done.stdout
    assert stored(cluster, namespace) == ({}, [])


def test_photos_without_their_job_are_mentioned(cluster, namespace, job, photos, darkroom):
    here = ("--namespace", namespace)
    assert darkroom("apply", job, *here).exit_code == 0
    job.write_text(job.read_text().replace("maxSteps: 150", "maxSteps: 160"))
    done = darkroom("apply", job, *photos, *here)
    assert done.exit_code == 1
    assert "ConfigMap rex-photos holds the photos, but the job was not applied" in done.stderr
    assert stored(cluster, namespace) == (OURS, [])
    job.write_text(job.read_text().replace("maxSteps: 160", "maxSteps: 150"))
    assert darkroom("apply", job, *photos, *here).exit_code == 0
    assert stored(cluster, namespace) == (OURS, ["rex"])


def test_a_job_that_is_being_deleted_is_said_to_be(cluster, namespace, job, darkroom):
    here = ("--namespace", namespace)
    assert darkroom("apply", job, *here).exit_code == 0
    which = ("personalizationjob", "rex", f"--namespace={namespace}", "--type=merge")
    cluster.kubectl("patch", *which, '--patch={"metadata": {"finalizers": ["test.dev/held"]}}')
    assert darkroom("cancel", "rex", "--yes", *here).exit_code == 0
    assert "an earlier rex is still being deleted" in darkroom("apply", job, *here).stderr
    assert "rex is cancelled already; wait" in darkroom("cancel", "rex", *here).stdout
    assert "Deleting: its deletion began at" in darkroom("describe", "rex", *here).stdout
    let_go = (*which, '--patch={"metadata": {"finalizers": null}}')
    later = threading.Timer(2, cluster.kubectl, ("patch", *let_go))
    later.start()
    done = darkroom("watch", "rex", *here)
    later.join()
    assert done.stdout.splitlines()[-1] == "rex: deleted"
    assert done.stderr == "rex was deleted before it was over\n"


@pytest.fixture
def operators(cluster):
    """Publishes what the chart does, until the end of the test."""
    made = []

    def publish(name, namespaces):
        labels = {"darkroom.dev/operator": "darkroom-system", "app.kubernetes.io/instance": name}
        metadata = {"name": name, "namespace": "kube-public", "labels": labels}
        made.append(name)
        data = {"namespaces": namespaces, "operator": f"darkroom-system/{name}", "version": "1"}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    yield publish
    cluster.kubectl("delete", "configmap", *made, "--namespace=kube-public")


def test_a_namespace_that_no_operator_watches_is_said(cluster, namespace, job, operators, darkroom):
    here = ("--namespace", namespace)
    operators("test-blue", "team-b")
    done = darkroom("apply", job, *here)
    assert done.exit_code == 0
    assert done.stderr.startswith(f"warning: no operator watches namespace {namespace} (test-blue")
    assert "'watchNamespaces={team-b," in done.stderr
    operators("test-green", f"team-c,{namespace}")
    done = darkroom("apply", job, *here)
    assert (done.exit_code, done.stderr) == (0, "")


def test_a_user_who_may_not_read_what_operators_publish_is_told_nothing(
    cluster, namespace, job, operators, darkroom, tmp_path, monkeypatch
):
    operators("test-blue", "team-b")
    rules = ["--verb=*", "--resource=personalizationjobs.darkroom.dev,configmaps"]
    where = f"--namespace={namespace}"
    cluster.kubectl("create", "role", "user", *rules, where)
    account = f"--serviceaccount={namespace}:default"
    cluster.kubectl("create", "rolebinding", "user", "--role=user", account, where)
    file = cluster.account_kubeconfig(namespace, "default", tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(file))
    done = darkroom("apply", job, "--photos", tmp_path / "photos")
    assert (done.exit_code, done.stderr) == (0, "")
    assert stored(cluster, namespace) == (OURS, ["rex"])


def broken(kubeconfig, fault):
    """A kubeconfig with a fault."""
    document = json.loads(kubeconfig)
    (cluster,), (user,) = document["clusters"], document["users"]
    if fault == "no API server":
        cluster["cluster"]["server"] = "https://127.0.0.1:1"
    elif fault == "another authority":
        del cluster["cluster"]["certificate-authority-data"]
    elif fault == "an expired login":
        user["user"] = {"token": "expired"}
    elif fault == "no login program":
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-login"}
        user["user"] = {"exec": {**plugin, "interactiveMode": "Never"}}
    elif fault == "no such context":
        document["current-context"] = "nowhere"
    return json.dumps(document)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no API server", "the API server 127.0.0.1:1 refuses connections; check that"),
        ("another authority", "is not trusted: certificate signed by unknown authority; get"),
        ("an expired login", "does not accept the login: there is none, or it has expired; log"),
        ("no login program", "logs in with no-such-login, which is not installed; install it"),
        ("no such context", "the kubeconfig has no context nowhere; kubectl config get-contexts"),
    ],
)
def test_a_cluster_out_of_reach_is_a_sentence_whatever_the_verb(
    fault, said, cluster, namespace, job, darkroom, tmp_path, monkeypatch
):
    whole = cluster.kubectl("config", "view", "--raw", "--flatten", "--minify", "--output=json")
    file = tmp_path / "kubeconfig"
    file.write_text(broken(whole, fault))
    monkeypatch.setenv("KUBECONFIG", str(file))
    for arguments in (("apply", job), ("describe", "rex"), ("watch", "rex"), ("watch",)):
        done = darkroom(*arguments)
        assert done.exit_code == 1
        (text,) = done.stderr.splitlines()
        assert said in text


def test_no_cluster_at_all_is_a_sentence(namespace, job, darkroom, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    for arguments in (("apply", job), ("describe", "rex")):
        done = darkroom(*arguments)
        assert done.exit_code == 1
        assert done.stderr.startswith("kubectl knows no cluster; name a kubeconfig")
        assert len(done.stderr.splitlines()) == 1


def test_a_field_that_the_cluster_does_not_know_is_said(cluster, namespace, job, darkroom):
    document = {"apiVersion": "darkroom.dev/v1alpha1", "kind": "PersonalizationJob"}
    document |= {"metadata": {"name": "rex"}, "spec": {"newer": 1}}
    with pytest.raises(KubectlError, match=r"knows no field spec\.newer; leave it out, or"):
        Kubectl(namespace=namespace).apply(document)
