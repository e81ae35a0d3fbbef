"""Whose turn it is: which pictures are taken a step further in the next pass. Pure functions.

Pictures that one pass can take together are a group. Between groups, the one that had the least work done
has the next pass (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996); within a group, the
pictures that are due first. A picture is due `PATIENCE` times as long after its arrival as it would take by
itself: small ones pass large ones, and no large one waits for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

PATIENCE: Final = 2.0
"""How many times its own duration a picture can wait for before it is due."""


class Waiting(Protocol):
    """A picture, as far as turns are concerned."""

    @property
    def rows(self) -> int:
        """Rows in a pass."""
        ...

    @property
    def due_s(self) -> float:
        """When it is due, on the monotonic clock."""
        ...


Picture = TypeVar("Picture", bound=Waiting)
Key = TypeVar("Key")


@dataclass(frozen=True)
class Work:
    """What a picture takes: passes, rows in each, and cells of its latent."""

    steps: int
    rows: int
    cells: int

    def due_s(self, arrived_s: float, row_cell_s: float) -> float:
        """When a picture is due whose row takes so many seconds for a cell in a pass."""
        return arrived_s + PATIENCE * self.steps * self.rows * self.cells * row_cell_s


def first_due(pictures: Sequence[Picture], rows: int) -> list[Picture]:
    """Those that have the next pass of a group, which has so many rows: at least one."""
    chosen: list[Picture] = []
    for picture in sorted(pictures, key=lambda one: one.due_s):
        if not chosen or picture.rows <= rows:
            chosen.append(picture)
            rows -= picture.rows
    return chosen


def least_served(served: Mapping[Key, float]) -> Key:
    """The group that had the least work done."""
    return min(served, key=lambda key: served[key])


def with_groups(served: Mapping[Key, float], groups: Sequence[Key]) -> dict[Key, float]:
    """The work done for each of the groups that there are now; a new one starts level with the least served.

    So it neither has to wait for what others had before it came, nor makes them wait for what it missed.
    """
    level = min((served[key] for key in groups if key in served), default=0.0)
    return {key: served.get(key, level) for key in groups}
