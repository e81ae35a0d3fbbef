"""What a test holds of a cluster: a kubeconfig, kubectl, and, of a local one, its processes."""

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from darkroom_testing.cluster.audit import Request, requests
from darkroom_testing.cluster.dashboards import Rule
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.namespaces import entering
from darkroom_testing.cluster.node_tier import import_image
from darkroom_testing.cluster.pki import kubeconfig, write_private
from darkroom_testing.cluster.processes import start, stop, wait_ready
from darkroom_testing.cluster.state import MARK, State

T = TypeVar("T")
Document = dict[str, Any]
WAIT_SECONDS = 120
NEEDED_BY_ALL = ("etcd", "kube-apiserver")


@dataclass(frozen=True)
class Cluster:
    """A running cluster: one of ours, or one that was there."""

    kubeconfig: Path
    kubectl_command: str
    state: State | None = None
    """The folder of a local cluster; None: somebody else's cluster."""

    def kubectl(self, *arguments: str, document: Document | str | None = None) -> str:
        """What kubectl prints; `document` is its standard input. An error is an exception."""
        text = document if isinstance(document, str | None) else json.dumps(document)
        command = [self.kubectl_command, f"--kubeconfig={self.kubeconfig}"]
        command += [f"--cache-dir={self.state.kubectl_cache}"] if self.state else []
        command += arguments
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Document | None:
        """The object or list that `kubectl get` finds; None: there is no such object."""
        found = self.kubectl("get", "--output=json", "--ignore-not-found", *arguments)
        document: Document | None = json.loads(found) if found else None
        return document

    def items(self, *arguments: str) -> list[Document]:
        """The objects that `kubectl get` lists."""
        found = self.kubectl("get", "--output=json", *arguments)
        items: list[Document] = json.loads(found)["items"]
        return items

    def apply(self, *documents: Document) -> None:
        """Applies objects on the server, under kubectl's name."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "--server-side", "--filename=-", document=listed)

    @contextmanager
    def namespace(self, prefix: str = "test", **labels: str) -> Iterator[str]:
        """A namespace for one test; its deletion is begun, not waited for."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        metadata = {"name": name, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        account = ["serviceaccount", "default", f"--namespace={name}"]
        wait_for(lambda: self.get(*account), "the default service account")
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def account_kubeconfig(self, namespace: str, account: str, path: Path) -> Path:
        """Writes a kubeconfig of a service account, with a token as pods have them."""
        token = self.kubectl("create", "token", account, f"--namespace={namespace}").strip()
        raw = json.loads(self.kubectl("config", "view", "--raw", "--flatten", "--output=json"))
        current = next(one for one in raw["contexts"] if one["name"] == raw["current-context"])
        name = current["context"]["cluster"]
        cluster = next(one["cluster"] for one in raw["clusters"] if one["name"] == name)
        authority = cluster["certificate-authority-data"]
        user = {"token": token}
        document = kubeconfig(cluster["server"], authority, account, user, namespace)
        return write_private(path, document)

    @property
    def local(self) -> State:
        """The folder of a local cluster."""
        if self.state is None:
            raise ClusterError("only a local cluster can do this: --cluster=local")
        return self.state

    def command_inside(self, *argv: str) -> list[str]:
        """The command, to be run in the cluster's own network, if it has one; it ends with it."""
        return ["env", f"{MARK}={self.local.folder}", *self._enter(), *argv]

    def _enter(self) -> list[str]:
        if self.local.tier == "api":
            return []
        return entering(self.inside_process())

    def inside_process(self) -> int:
        """A process in the cluster's own namespaces."""
        inside = (one for one in self.local.commands() if not one.outside)
        return next(one.pid for one in inside if one.alive())

    @property
    def inside_kubeconfig(self) -> Path:
        """The kubeconfig for a command inside: without the forwarder between."""
        return self.local.authority.folder / "admin.kubeconfig"

    def stop(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Kills one of the cluster's processes, such as `kube-apiserver` or `kuberay`."""
        stop(self.local, name, number)

    def start(self, name: str) -> None:
        """Starts a process that was stopped, as it was started before."""
        command = self.local.command(name)
        prefix = [] if command.outside else self._enter()
        known = len(entering(0)) if command.argv[0] == "nsenter" else 0
        start(self.local, name, [*prefix, *command.argv[known:]], command.environment)
        if name in NEEDED_BY_ALL:
            wait_ready(self.local, name, self.answers)

    def restart(self, name: str) -> None:
        """Kills and starts one of the cluster's processes; what it stored stays."""
        self.stop(name)
        self.start(name)

    def answers(self) -> bool:
        """Whether the apiserver is ready."""
        try:
            return self.kubectl("get", "--raw=/readyz") == "ok"
        except ClusterError:
            return False

    def simulate(self, pattern: str, **values: Any) -> None:
        """Sets how the jobs fare whose Ray head service matches `NAMESPACE/SERVICE`.

        The fields are those of `dashboards.Rule`; the newest matching pattern counts.
        """
        path = self.local.simulation
        rules = json.loads(path.read_text()) if path.exists() else {}
        rules.pop(pattern, None)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({pattern: asdict(Rule(**values)), **rules}))
        temporary.replace(path)

    def add_image(self, archive: Path) -> None:
        """Gives the node of the *node* tier an image from an archive."""
        import_image(self.local, archive)

    def audit_offset(self) -> int:
        """Where the audit log ends now."""
        return self.local.audit_log.stat().st_size

    def requests(self, since: int = 0, user: str | None = None) -> list[Request]:
        """The requests that the apiserver answered, of one user or of all."""
        found = requests(self.local.audit_log, since)
        return [one for one in found if user is None or one.user == user]


def wait_for(
    look: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS, pause: float = 0.2
) -> T:
    """The first true value that `look` returns."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(pause)
    raise AssertionError(f"no {what} within {seconds:.0f} s")
