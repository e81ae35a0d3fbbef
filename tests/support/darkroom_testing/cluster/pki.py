"""The certificates of one cluster, and kubeconfigs that hold everything a client needs."""

import base64
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NODE_ADDRESS = "10.244.0.1"
"""The address of the node, and of everything that listens for pods, in the cluster's own network."""
SERVICE_ADDRESS = "10.96.0.1"
"""The address of the service `kubernetes`: the first one of the range of services."""
DAYS = 365
SERVICE = "kubernetes.default.svc.cluster.local"
SERVER_NAMES = (
    "localhost",
    *(SERVICE.rsplit(".", count)[0] for count in (4, 3, 2)),
    SERVICE,
    "127.0.0.1",
    NODE_ADDRESS,
    SERVICE_ADDRESS,
)


@dataclass(frozen=True)
class User:
    """Whom a client certificate names, and the names it may serve under."""

    name: str
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


ADMIN = "system:masters"
"""The group that may do anything."""
USERS = {
    "apiserver": User("kube-apiserver", hosts=SERVER_NAMES),
    "admin": User("admin", (ADMIN,)),
    "controller-manager": User("system:kube-controller-manager"),
    "scheduler": User("system:kube-scheduler"),
    "kwok": User("kwok", (ADMIN,)),
    "kuberay": User("kuberay", (ADMIN,)),
    "dns": User("dns", (ADMIN,)),
    "kube-proxy": User("system:kube-proxy"),
    "node1": User("system:node:node1", ("system:nodes",), ("node1", NODE_ADDRESS, "127.0.0.1")),
    "front-proxy": User("front-proxy-client"),
    "kubelet-client": User("kube-apiserver-kubelet-client", (ADMIN,)),
}
"""Each with a name of its own, so that the audit log tells them apart."""


def _name(common_name: str, groups: Sequence[str] = ()) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    path.touch(mode=0o600)
    path.write_bytes(pem)


def _builder(subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=DAYS))
    )


class Authority:
    """The cluster's certificate authority: a folder of `NAME.crt` and `NAME.key`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Writes the authority, the certificates of all components, and the key of the tokens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("darkroom test cluster")
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        certificate = (
            _builder(name, name)
            .public_key(key.public_key())
            .add_extension(constraints, critical=True)
            .sign(key, hashes.SHA256())
        )
        self._write("ca", key, certificate)
        for file, user in USERS.items():
            self.issue(file, user)
        tokens = ec.generate_private_key(ec.SECP256R1())
        _write_key(self.key("tokens"), tokens)
        (self.folder / "tokens.pub").write_bytes(
            tokens.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    def issue(self, file: str, user: User) -> None:
        """Writes a certificate that is good for a client and for a server."""
        authority = x509.load_pem_x509_certificate(self.certificate("ca").read_bytes())
        signer = serialization.load_pem_private_key(self.key("ca").read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(_name(user.name, user.groups), authority.subject)
        builder = builder.public_key(key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        if user.hosts:
            names = [_alternative_name(host) for host in user.hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self._write(file, key, builder.sign(signer, hashes.SHA256()))

    def _write(
        self, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        _write_key(self.key(file), key)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.certificate(file).write_bytes(pem)

    def certificate(self, file: str) -> Path:
        return self.folder / f"{file}.crt"

    def key(self, file: str) -> Path:
        return self.folder / f"{file}.key"

    def kubeconfig(self, file: str, server: str) -> dict[str, object]:
        """A kubeconfig of the user whose certificate is `file`."""
        user = {
            "client-certificate-data": _base64(self.certificate(file)),
            "client-key-data": _base64(self.key(file)),
        }
        return kubeconfig(server, _base64(self.certificate("ca")), file, user)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def kubeconfig(
    server: str, authority: str, name: str, user: dict[str, str], namespace: str = "default"
) -> dict[str, object]:
    """A kubeconfig of one cluster and one user; `authority` in base64."""
    cluster = {"server": server, "certificate-authority-data": authority}
    context = {"cluster": "darkroom-test", "user": name, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "darkroom-test", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "darkroom-test", "context": context}],
        "current-context": "darkroom-test",
    }


def write_private(path: Path, document: dict[str, object]) -> Path:
    """Writes a document as JSON, which is YAML too, for its owner's eyes only."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1))
    return path
