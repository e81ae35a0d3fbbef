"""The jobs of a cluster: read, changed and followed, as the models of `darkroom_api`."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

from darkroom.cluster.kubectl import RESOURCE, Kubectl, KubectlError, NotFoundError
from darkroom.cluster.states import deleted_since
from darkroom.errors import CommandError
from darkroom_api.job import PersonalizationJob
from darkroom_api.load import parse_job

PATIENCE: Final = 5
"""Broken watches in a row, after one that worked, that are begun again."""


@dataclass(frozen=True)
class Change:
    """What a watch says: a job is so now, or it is gone."""

    job: PersonalizationJob
    deleted: bool = False


@dataclass(frozen=True)
class Jobs:
    """The jobs that a kubectl reaches."""

    kubectl: Kubectl

    def get(self, name: str) -> PersonalizationJob:
        """One job; raises CommandError when there is none."""
        try:
            return _parsed(self.kubectl.get(RESOURCE, name))
        except NotFoundError as error:
            raise _no_job(name, self.kubectl.namespace) from error

    def apply(self, job: PersonalizationJob, *, force: bool) -> PersonalizationJob:
        """Creates or updates a job with the fields that its file sets, and no others."""
        document = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
        document.pop("status", None)
        applied = _parsed(self.kubectl.apply(document, force=force))
        if deleted_since(applied) is not None:
            name = applied.metadata.name
            raise CommandError(
                f"an earlier {name} is still being deleted, and this one would go with it;"
                f" darkroom watch {name} ends when it is gone: then apply it again"
            )
        return applied

    def suspend(self, name: str, *, suspended: bool) -> PersonalizationJob:
        """Pauses a job, or lets it go on."""
        change = {"spec": {"runPolicy": {"suspend": suspended}}}
        try:
            return _parsed(self.kubectl.patch(RESOURCE, name, change))
        except NotFoundError as error:
            raise _no_job(name, self.kubectl.namespace) from error

    def delete(self, name: str) -> None:
        """Begins a job's deletion."""
        try:
            self.kubectl.delete(RESOURCE, name)
        except NotFoundError as error:
            raise _no_job(name, self.kubectl.namespace) from error

    def follow(
        self, name: str | None, *, everywhere: bool = False
    ) -> Generator[Change, None, None]:
        """Changes of one job or of all, without end: a watch that ends or breaks is begun again."""
        which = ["--all-namespaces"] if everywhere else [name] if name else []
        broken = PATIENCE if name is None else self._check(name)
        while True:
            try:
                for event in self.kubectl.watch(RESOURCE, *which):
                    broken = 0
                    if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                        yield Change(_parsed(event["object"]), event["type"] == "DELETED")
            except NotFoundError as error:
                if name is None:
                    raise
                raise _no_job(name, self.kubectl.namespace) from error
            except KubectlError:
                if broken >= PATIENCE:
                    raise
            time.sleep(min(2**broken, 10))
            broken += 1

    def _check(self, name: str) -> int:
        self.get(name)
        return 0


def _parsed(raw: dict[str, Any]) -> PersonalizationJob:
    return parse_job(raw, source=f"the cluster's job {raw.get('metadata', {}).get('name')}")


def _no_job(name: str, namespace: str | None) -> CommandError:
    where = f" in namespace {namespace}" if namespace else ""
    return CommandError(
        f"there is no job {name}{where}; darkroom watch -n NAMESPACE shows those there are"
    )
