"""What the apiserver's audit log says of the requests it answered: who, which verb, on what."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Request:
    """One answered request."""

    user: str
    verb: str
    """As RBAC names it."""
    group: str
    resource: str
    """With its subresource, as in `rayjobs/status`; the path, where there is no resource."""
    namespace: str
    name: str
    code: int
    agent: str

    @property
    def writes(self) -> bool:
        return self.verb in WRITES


def _request(event: dict[str, Any]) -> Request:
    reference = event.get("objectRef") or {}
    subresource = reference.get("subresource")
    resource = reference.get("resource") or event["requestURI"]
    return Request(
        user=event["user"]["username"],
        verb=event["verb"],
        group=reference.get("apiGroup", ""),
        resource=f"{resource}/{subresource}" if subresource else resource,
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=(event.get("responseStatus") or {}).get("code", 0),
        agent=event.get("userAgent", ""),
    )


def requests(log: Path, since: int = 0) -> Iterator[Request]:
    """The requests after an offset of the log; a watch counts once, when it has ended."""
    with log.open("rb") as file:
        file.seek(since)
        for line in file:
            if line.endswith(b"\n"):
                event = json.loads(line)
                if event["stage"] in ("ResponseComplete", "Panic"):
                    yield _request(event)
