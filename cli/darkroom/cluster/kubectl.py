"""The only way to a cluster: the user's own kubectl, which knows their kubeconfig, contexts and logins."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, NoReturn

from darkroom.cluster.complaints import explained, is_not_found
from darkroom.errors import CommandError
from darkroom_api.names import GROUP, PLURAL

RESOURCE: Final = f"{PLURAL}.{GROUP}"
"""Our resource as kubectl takes it: never another group's of the same name."""

MANAGER: Final = "darkroom"
"""Field manager of what this command writes."""

MISSING: Final = "kubectl is not installed; get it from https://kubernetes.io/docs/tasks/tools/ and put it on PATH"


class KubectlError(CommandError):
    """kubectl failed; says why, and the fix."""


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

    def create(self, document: dict[str, Any]) -> dict[str, Any]:
        """Creates an object; returns what it is then."""
        arguments = ["create", f"--field-manager={MANAGER}", "--filename=-"]
        return _object(self.run(*arguments, "--output=json", document=document))

    def replace(self, document: dict[str, Any]) -> dict[str, Any]:
        """Replaces an object, unless it has changed since it was got; returns what it is then."""
        arguments = ["replace", f"--field-manager={MANAGER}", "--filename=-"]
        return _object(self.run(*arguments, "--output=json", document=document))

    def apply(
        self, document: dict[str, Any], *, force: bool = False, manager: str = MANAGER
    ) -> dict[str, Any]:
        """Creates or updates an object on the server; returns what it is then."""
        arguments = ["apply", "--server-side", f"--field-manager={manager}", "--filename=-"]
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
    kind = NotFoundError if is_not_found(complaint) else KubectlError
    raise kind(explained(complaint))
