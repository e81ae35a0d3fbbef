"""Which adapter has which slot of a bank: who uses it, which are pinned, and which one makes room. Pure."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass


class NoFreeSlotError(Exception):
    """Every slot of a bank is in use or pinned; passes when one of its users is done."""


@dataclass
class _Holder:
    slot: int
    users: int = 0
    pinned: bool = False


@dataclass(frozen=True)
class SlotCounts:
    """What a bank has done since it is there."""

    loads: int = 0
    """Adapters that were given a slot."""

    hits: int = 0
    """Adapters that were asked for and had one."""

    evictions: int = 0
    """Adapters that lost theirs to another."""


class Slots:
    """The slots 0 to `count - 1`; locks are the caller's."""

    def __init__(self, count: int) -> None:
        self._unused = list(range(count))
        # Least recently used first.
        self._holders: OrderedDict[str, _Holder] = OrderedDict()
        self.counts = SlotCounts()

    def take(self, key: str) -> tuple[int, bool]:
        """The slot of an adapter, which has one user more, and whether it must be loaded there.

        One without a slot gets an unused one, or that of the adapter that nobody uses or pinned and that was
        used least recently. Raises NoFreeSlotError without such.
        """
        holder = self._holders.get(key)
        is_new = holder is None
        if holder is None:
            holder = self._holders[key] = _Holder(
                self._unused.pop() if self._unused else self._evict()
            )
        holder.users += 1
        self._holders.move_to_end(key)
        self._count(loads=int(is_new), hits=int(not is_new))
        return holder.slot, is_new

    def release(self, slot: int) -> None:
        """One user less; raises ValueError where there is none."""
        key, holder = self._holder(slot)
        if not holder.users:
            raise ValueError(f"slot {slot} is released more often than it was acquired")
        holder.users -= 1
        self._holders.move_to_end(key)

    def forget(self, slot: int) -> None:
        """Frees a slot whose adapter could not be loaded, whoever waits for it."""
        key, _ = self._holder(slot)
        del self._holders[key]
        self._unused.append(slot)

    def pin(self, slot: int, pinned: bool) -> None:
        """Whether the adapter of a slot stays even when nobody uses it; raises ValueError for an empty slot."""
        self._holder(slot)[1].pinned = pinned

    def check_in_use(self, slots: Iterable[int]) -> None:
        """Raises ValueError when one of them was not acquired: it may be loaded with anything at any time."""
        in_use = {holder.slot for holder in self._holders.values() if holder.users}
        if strange := set(slots) - in_use:
            raise ValueError(f"slots {sorted(strange)} were not acquired")

    def _holder(self, slot: int) -> tuple[str, _Holder]:
        for key, holder in self._holders.items():
            if holder.slot == slot:
                return key, holder
        raise ValueError(f"slot {slot} holds no adapter")

    def _evict(self) -> int:
        for key, holder in self._holders.items():
            if not holder.users and not holder.pinned:
                del self._holders[key]
                self._count(evictions=1)
                return holder.slot
        raise NoFreeSlotError(
            f"all {len(self._holders)} adapters of the bank are in use or pinned:"
            " wait for a picture to be done, or give the bank more slots"
        )

    def _count(self, loads: int = 0, hits: int = 0, evictions: int = 0) -> None:
        now = self.counts
        self.counts = SlotCounts(now.loads + loads, now.hits + hits, now.evictions + evictions)
