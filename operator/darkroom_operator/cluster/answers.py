"""What a response of the API server means: which error it is, and whose object it shows. Pure."""

import http
from typing import Any

from pydantic_core import from_json

from darkroom_api.names import FIELD_MANAGER, MANAGED_BY_LABEL
from darkroom_operator.cluster.errors import (
    ClusterError,
    ConflictError,
    GoneError,
    NamespaceTerminatingError,
    NameTakenError,
    NotInstalledError,
    RefusedError,
    TooManyRequestsError,
    UnavailableError,
)

Object = dict[str, Any]
"""An object as the API sends it."""


def error_of(status: int, retry_after: str | None, text: str) -> ClusterError:
    """The error for an answer: see the table in `errors`."""
    body = _status_body(text)
    message, details = body.get("message", text[:500]), body.get("details") or {}
    causes = {cause.get("reason") for cause in details.get("causes") or ()}
    if status == 404:
        # Without the name of an object, it is the resource itself that is not there.
        return GoneError(message) if details.get("name") else NotInstalledError(message)
    if status == 409:
        owned = "FieldManagerConflict" in causes
        return RefusedError(message) if owned else ConflictError(message)
    if status == 403 and "NamespaceTerminating" in causes:
        return NamespaceTerminatingError(message)
    if status == 429:
        seconds = float(retry_after) if retry_after and retry_after.isdigit() else 1.0
        return TooManyRequestsError(message, seconds)
    if is_unavailable(status):
        return UnavailableError(message)
    return GoneError(message) if status == 410 else RefusedError(message)


def is_unavailable(status: int) -> bool:
    """Whether an answer says that the apiserver can't serve now; a login that is not valid is renewed."""
    return status == http.HTTPStatus.UNAUTHORIZED or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR


def refuse_others(found: Object, manifest: Object) -> None:
    """Raises unless an object was made for the job that a manifest is of, or for nobody any more.

    What a job leaves behind when it is deleted as an orphan has our label and no owner: it is taken
    over, as controllers of Kubernetes do it.
    """
    (owner,) = manifest["metadata"]["ownerReferences"]
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    owners = found["metadata"].get("ownerReferences", ())
    if any(one["uid"] == owner["uid"] for one in owners):
        return
    if any((one["kind"], one["name"]) == (owner["kind"], owner["name"]) for one in owners):
        raise ConflictError(f"{kind} {name} of an earlier job of this name is still to go")
    labels = found["metadata"].get("labels", {})
    if owners or labels.get(MANAGED_BY_LABEL) != FIELD_MANAGER:
        raise NameTakenError(
            f"{kind} {name} is in the way: somebody else made it, and it is left alone;"
            f" delete it, or give the job another name"
        )


def _status_body(text: str) -> Object:
    """A `Status` object, or nothing where the answer is plain text."""
    try:
        body = from_json(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
