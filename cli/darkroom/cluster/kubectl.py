"""The only way to a cluster: the user's own kubectl, which knows their kubeconfig, contexts and logins."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, NoReturn

from darkroom.errors import CommandError
from darkroom_api.names import GROUP, PLURAL

RESOURCE: Final = f"{PLURAL}.{GROUP}"
"""Our resource as kubectl takes it: never another group's of the same name."""

MANAGER: Final = "darkroom"
"""Field manager of what this command writes."""

MISSING: Final = "kubectl is not installed; get it from https://kubernetes.io/docs/tasks/tools/ and put it on PATH"

_HELM: Final = (
    "helm install darkroom charts/darkroom --namespace darkroom-system --create-namespace"
)

_FIXES: Final = (
    (r"have a resource type|no matches for kind", f"install darkroom on the cluster: {_HELM}"),
    (r"with \d+ conflicts?:", "keep them as they are, or take them over with --force"),
    (r"Forbidden|forbidden", "ask the cluster's administrator for the right"),
    (r"Unauthorized|must be logged in", "log in to the cluster again"),
    (
        r"context .*does not exist|context was not found",
        "kubectl config get-contexts lists the contexts",
    ),
    (
        r"was refused|no such host|i/o timeout|Unable to connect|no route to host",
        "check KUBECONFIG and --context, and that the cluster runs",
    ),
    (r"waiting to start|ContainerCreating", "wait for its pods: darkroom describe says how it is"),
)
"""What to do about kubectl's errors, by a pattern that occurs in them; the first one counts."""


_NOISE: Final = re.compile(r"Warning:|Defaulted container|[EWI]\d{4} ")
"""Begins lines of kubectl's that are not the error: warnings and its own log."""


class KubectlError(CommandError):
    """kubectl refused; says why in its words, and the fix in ours."""


class NotFoundError(KubectlError):
    """There is no such object."""


@dataclass(frozen=True)
class Kubectl:
    """Calls kubectl in one context and namespace; None leaves them to the kubeconfig."""

    context: str | None = None
    namespace: str | None = None

    def run(self, *arguments: str, document: dict[str, Any] | None = None) -> str:
        """What kubectl prints; `document` is its standard input. Raises KubectlError."""
        text = json.dumps(document) if document is not None else None
        done = subprocess.run(
            self._command(arguments),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            _refuse(done.stderr)
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object or a list."""
        return _object(self.run("get", "--output=json", *arguments))

    def apply(self, document: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        """Creates or updates an object on the server; returns what it is then."""
        arguments = ["apply", "--server-side", f"--field-manager={MANAGER}", "--filename=-"]
        forced = ["--force-conflicts"] if force else []
        return _object(self.run(*arguments, *forced, "--output=json", document=document))

    def patch(self, resource: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        """Merges a change into an object; returns what it is then."""
        how = ["--type=merge", f"--field-manager={MANAGER}", f"--patch={json.dumps(change)}"]
        return _object(self.run("patch", resource, name, *how, "--output=json"))

    def delete(self, resource: str, name: str) -> None:
        """Begins an object's deletion."""
        self.run("delete", resource, name, "--wait=false")

    def watch(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """Watch events, `{"type", "object"}`, until the server ends the watch."""
        command = ["get", "--output=json", "--watch", "--output-watch-events", *arguments]
        with self.stream(*command) as output:
            yield from documents(output)

    @contextmanager
    def stream(self, *arguments: str) -> Iterator[IO[str]]:
        """The lines that kubectl prints while it runs; it ends with the block.

        Raises KubectlError at the block's end when kubectl failed.
        """
        process = subprocess.Popen(
            self._command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            yield process.stdout
            # Nothing else is written by then: a warning or two fit into the pipe meanwhile.
            if (complaint := process.stderr.read()) and process.wait():
                _refuse(complaint)
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        path = shutil.which("kubectl")
        if path is None:
            raise CommandError(MISSING)
        options = [f"--context={self.context}"] if self.context else []
        options += [f"--namespace={self.namespace}"] if self.namespace else []
        return [path, *arguments, *options]


def documents(lines: IO[str]) -> Iterator[dict[str, Any]]:
    """JSON objects of a stream, each on one line or indented over several."""
    begun = ""
    for line in lines:
        begun += line
        if line.rstrip() == "}" or (begun == line and line.rstrip().endswith("}")):
            yield _object(begun)
            begun = ""


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise KubectlError(f"kubectl printed no object: {text[:200]!r}; update kubectl")
    return value


def _refuse(complaint: str) -> NoReturn:
    lines = [line for line in complaint.strip().splitlines() if not _NOISE.match(line)]
    text = "\n".join(lines).removeprefix("error: ").removeprefix("Error from server ").rstrip(".")
    kind = NotFoundError if text.startswith("(NotFound)") else KubectlError
    text = re.sub(r"^\(\w+\): ", "", text)
    fix = next((fix for pattern, fix in _FIXES if re.search(pattern, complaint)), None)
    raise kind(f"kubectl: {text}; {fix}" if fix else f"kubectl: {text}")
