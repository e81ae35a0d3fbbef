"""How the operator logs in: by kopf's readers, with a token that is renewed on the disk."""

import kopf
import pytest
import yaml

from darkroom_operator.cluster import session
from darkroom_operator.cluster.session import LOGIN_SECONDS, Login


@pytest.fixture
def account(monkeypatch):
    """A pod whose service account has a token that the test can change."""
    tokens = ["first"]

    def log_in(**_):
        return kopf.ConnectionInfo(server="https://kubernetes.default.svc", token=tokens[-1])

    monkeypatch.setattr(session.kopf, "login_with_service_account", log_in)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    return tokens


def test_a_renewed_token_is_taken_up(account):
    seconds = [0.0]
    login = Login(clock=lambda: seconds[0])
    account.append("second")
    assert login.headers() == {"Authorization": "Bearer first"}
    seconds[0] = LOGIN_SECONDS
    assert login.headers() == {"Authorization": "Bearer second"}


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
)
def test_a_pod_finds_the_apiserver_without_dns(account, monkeypatch, host, server):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    assert Login().server == server


def test_a_kubeconfig_is_for_those_who_are_no_pod(monkeypatch, tmp_path):
    document = {
        "current-context": "mine",
        "contexts": [{"name": "mine", "context": {"cluster": "far", "user": "me"}}],
        "clusters": [{"name": "far", "cluster": {"server": "https://far:6443"}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("KUBECONFIG", str(path))
    login = Login()
    assert (login.server, login.headers()) == (
        "https://far:6443",
        {"Authorization": "Bearer secret"},
    )


def test_a_kubeconfig_with_a_plugin_is_refused(monkeypatch, tmp_path):
    document = {
        "current-context": "mine",
        "contexts": [{"name": "mine", "context": {"cluster": "far", "user": "me"}}],
        "clusters": [{"name": "far", "cluster": {"server": "https://far:6443"}}],
        "users": [{"name": "me", "user": {"exec": {"command": "aws"}}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(kopf.LoginError, match="kubectl create token"):
        Login()


def test_who_has_neither_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(kopf.LoginError, match="set KUBECONFIG"):
        Login()
