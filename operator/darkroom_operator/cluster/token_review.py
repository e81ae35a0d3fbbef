"""Whose token a progress report came with: TokenReview, cached for a while."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from darkroom_api.names import PROGRESS_AUDIENCE
from darkroom_operator.cluster.client import Cluster
from darkroom_operator.cluster.resources import TOKEN_REVIEWS

KEPT_SECONDS: Final = 60.0
"""How long an answer counts: a revoked token works for so long after."""

KEPT_ANSWERS: Final = 4096
"""Answers that are remembered; the oldest goes first."""

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_PREFIX: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Caller:
    """The pod that a token was made for."""

    namespace: str
    pod: str


class TokenReviewer:
    """Asks the apiserver about tokens."""

    def __init__(self, cluster: Cluster, *, clock: Callable[[], float]) -> None:
        self._cluster, self._clock = cluster, clock
        self._known: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()

    async def caller(self, token: str) -> Caller | None:
        """Whose token it is; None when it is not valid for us. ClusterError when nobody answers."""
        key = hashlib.sha256(token.encode()).digest()
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            return known[1]
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [PROGRESS_AUDIENCE]},
        }
        answer = await self._cluster.create(TOKEN_REVIEWS, None, review, fenced=False)
        found = _caller(answer.get("status", {}))
        self._known[key] = (self._clock() + KEPT_SECONDS, found)
        self._known.move_to_end(key)
        while len(self._known) > KEPT_ANSWERS:
            self._known.popitem(last=False)
        return found


def _caller(status: dict[str, Any]) -> Caller | None:
    """The pod of a token for our audience; tokens that belong to no pod are not accepted."""
    user = status.get("user", {})
    pods = user.get("extra", {}).get(_POD_NAME, ())
    ours = PROGRESS_AUDIENCE in status.get("audiences", ())
    name = user.get("username", "")
    if not (status.get("authenticated") and ours and len(pods) == 1 and name.startswith(_PREFIX)):
        return None
    return Caller(namespace=name.removeprefix(_PREFIX).partition(":")[0], pod=pods[0])
