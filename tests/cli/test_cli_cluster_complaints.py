"""What kubectl says when it fails, recorded from real ones: each is one sentence and a fix of ours."""

from pathlib import Path

import pytest

from darkroom.cluster.complaints import explained

RECORDED = Path(__file__).parent / "data" / "cluster"
NAMES = sorted(path.name for path in RECORDED.glob("error-*.txt"))
NETWORK = "check the network or VPN, KUBECONFIG and --context"
SAID = {
    "no-cluster": "kubectl knows no cluster; name a kubeconfig with a current context in"
    " KUBECONFIG, or give --context",
    "no-context": "the kubeconfig has no context nowhere; kubectl config get-contexts lists those"
    " there are",
    "kubeconfig": "the kubeconfig /etc/kube/config can't be read: yaml: line 1: did not find"
    " expected node content; correct the file, or name another one in KUBECONFIG",
    "refused": "the API server 127.0.0.1:1 refuses connections; check that the cluster runs, and"
    " KUBECONFIG and --context",
    "no-host": "the name of the API server, no-such-cluster.invalid, is not found; " + NETWORK,
    "timeout": "the API server{server} does not answer in time; " + NETWORK,
    "reset": "the API server 127.0.0.1:18443 can't be reached; " + NETWORK,
    "certificate": "the certificate of the API server{server} is not trusted: certificate signed by"
    " unknown authority; get the cluster's kubeconfig anew, or choose another with KUBECONFIG or"
    " --context",
    "login": "the API server does not accept the login: there is none, or it has expired; log in to"
    " the cluster again",
    "no-login": "the API server does not accept the login: there is none, or it has expired; log in"
    " to the cluster again",
    "login-program": "the kubeconfig's login with aws has failed; log in again; kubectl"
    " cluster-info shows what aws says",
    "no-login-program": "the kubeconfig logs in with gke-gcloud-auth-plugin, which is not"
    " installed; install it, and put it on PATH",
    "no-kubernetes": "what answers is no Kubernetes API server; check KUBECONFIG and --context, and"
    " proxies on the way",
    "unavailable": "the API server has a fault of its own; try again in a minute, or ask the"
    " cluster's administrator",
    "no-crd": "this cluster knows no PersonalizationJobs; install darkroom on it: helm install"
    " darkroom charts/darkroom --namespace darkroom-system --create-namespace",
    "no-kubelet": "the node at 127.0.0.1:1 does not hand out the logs of its pods; see whether the"
    " node is ready: kubectl get nodes",
    "no-namespace": "namespace nowhere does not exist; create it: kubectl create namespace nowhere;"
    " or give another one with --namespace",
    "terminating": "namespace term is being deleted and takes nothing new; use another namespace,"
    " or wait until it is gone and create it anew",
    "unknown-field": "the cluster knows no field spec.training.maxStep; leave it out, or update the"
    " cluster's darkroom, which is older: helm upgrade darkroom charts/darkroom --namespace"
    " darkroom-system --reuse-values",
    "modified": 'somebody else has changed configmaps "rex-photos" just now; try again',
}
FIXES = {
    "certificate-file": "correct the file's path in the kubeconfig",
    "conflict": "keep them as they are, or take them over with --force",
    "forbidden": "ask the cluster's administrator for the right",
    "policy": "change what the cluster's policy names",
    "quota": "delete what is no longer needed, or ask for a larger quota",
    "webhook": "an admission webhook of the cluster does not answer: ask its administrator",
}


def recorded(name):
    return (RECORDED / f"error-{name}.txt").read_text()


@pytest.mark.parametrize("name", SAID)
def test_what_is_wrong_is_one_sentence_of_ours(name):
    assert explained(recorded(name)) == SAID[name].format(server="")


@pytest.mark.parametrize(
    "name", [name for name in SAID if (RECORDED / f"error-{name}-apply.txt").exists()]
)
def test_apply_says_the_same_and_no_word_of_validation(name):
    server = {"timeout": " 127.0.0.1:18447", "certificate": " 127.0.0.1:18443"}.get(name, "")
    assert explained(recorded(f"{name}-apply")) == SAID[name].format(server=server)


@pytest.mark.parametrize("name", FIXES)
def test_what_the_api_server_says_itself_comes_with_a_fix(name):
    words, fix = explained(recorded(name)).split("; ", 1)
    assert words.startswith("kubectl: ")
    assert fix == FIXES[name]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_takes_more_than_a_line(name):
    (line,) = explained((RECORDED / name).read_text()).splitlines()
    assert "STDIN" not in line
    assert "--validate" not in line


def test_many_faults_of_a_job_stay_a_list():
    text = 'The PersonalizationJob "rex" is invalid: \n* spec.a: wrong\n* spec.b: {wrong}\n'
    assert explained(text) == f"kubectl: {text.rstrip()}"


@pytest.mark.parametrize("verb", ["describe", "watch", "apply"])
def test_every_verb_says_it(verb, fake_kubectl, valid_job, darkroom):
    text = valid_job.read_text().replace("uri: file:photos", "configMap: rex-photos")
    valid_job.write_text(text)
    fake_kubectl.answer("", error="error-refused-apply.txt")
    done = darkroom(verb, valid_job if verb == "apply" else "rex")
    assert done.exit_code == 1
    assert done.stderr == f"{SAID['refused']}\n"
