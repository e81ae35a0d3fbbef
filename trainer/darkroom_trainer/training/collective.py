"""What ranks agree on beside gradients; each function is called by all of them at the same point."""

from collections.abc import Callable
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from darkroom_trainer.errors import TrainerError

T = TypeVar("T")


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    flags: list[bool | None] = [None] * dist.get_world_size()
    dist.all_gather_object(flags, flag)
    return any(flags)


def first_failure(failure: str | None) -> str | None:
    """The failure of the lowest rank that has one."""
    failures: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(failures, failure)
    return next((found for found in failures if found is not None), None)


def from_rank_0(value: T) -> T:
    """Rank 0's value on every rank."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def done_by_rank_0(work: Callable[[], T]) -> T:
    """What rank 0 makes of some work, on every rank; its TrainerError too, so that none waits for it."""
    outcome: T | TrainerError | None = None
    if dist.get_rank() == 0:
        try:
            outcome = work()
        except TrainerError as error:
            outcome = error
    outcome = from_rank_0(outcome)
    if isinstance(outcome, TrainerError):
        raise outcome
    return cast(T, outcome)


def mean_over_ranks(values: list[float], device: torch.device) -> list[float]:
    """The mean of each value over the ranks, in one reduction."""
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(value) / dist.get_world_size() for value in total.cpu()]
