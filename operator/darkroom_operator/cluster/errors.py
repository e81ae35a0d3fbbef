"""What can go wrong with a call to a cluster: one class for each way that it is handled.

| error | when | what the reconciler does |
|---|---|---|
| `ConflictError` | 409 | reads the job and its runs anew, decides again soon |
| `GoneError` | 404 of an object, 410 | the same; what is not there is forgotten |
| `NotInstalledError` | 404 of a whole resource | the user is told what to install; again in a minute |
| `RefusedError` | 400, 403, 422, a field that somebody else owns | the user is told why; again in a minute |
| `NameTakenError` | an object of that name belongs to somebody else | the same; it is neither written nor deleted |
| `NamespaceTerminatingError` | the namespace is being deleted | nothing new is made in it, nothing is held back |
| `TooManyRequestsError` | 429 | waits as long as Retry-After says |
| `UnavailableError` | 401, 5xx, connection lost, timeout | backs off, doubling |
| `FencedError` | this process does not lead | does nothing: the leader acts |

A call that failed may have been carried out all the same (a timeout, a lost connection): every write is
such that repeating it changes nothing.
"""


class ClusterError(Exception):
    """A call to the cluster did not succeed."""


class ConflictError(ClusterError):
    """The object is not as it was when it was looked at, or somebody was quicker."""


class GoneError(ClusterError):
    """The object is not there, or no longer as the one that was looked at."""


class NotInstalledError(ClusterError):
    """The cluster does not know the resource."""


class RefusedError(ClusterError):
    """The cluster understood and said no: validation, a policy, a quota, missing rights."""


class NameTakenError(RefusedError):
    """An object of the name that is needed is there, and was not made for this job."""


class NamespaceTerminatingError(RefusedError):
    """Nothing can be made in a namespace that is being deleted."""


class TooManyRequestsError(ClusterError):
    """The cluster asks for patience."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(ClusterError):
    """The cluster did not answer, or answered with an error of its own."""


class FencedError(ClusterError):
    """A write was not sent, because this process may no longer be the leader."""
