"""Slots of a bank: who uses one keeps it, and the least recently used adapter makes room."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from darkroom_serving.engine.slots import NoFreeSlotError, SlotCounts, Slots

COUNT = 3
KEYS = st.sampled_from("abcdef")


class SlotsMachine(RuleBasedStateMachine):
    """Beside the slots, a list of what they should hold, least recently used first."""

    def __init__(self):
        super().__init__()
        self.slots = Slots(COUNT)
        self.order = []
        self.slot_of, self.users, self.pinned = {}, {}, set()
        self.evictions = 0

    def free(self):
        return [key for key in self.order if not self.users[key] and key not in self.pinned]

    @rule(key=KEYS)
    def take(self, key):
        held = key in self.order
        if not held and len(self.order) == COUNT:
            if not self.free():
                with pytest.raises(NoFreeSlotError, match=f"all {COUNT} adapters"):
                    self.slots.take(key)
                return
            self.order.remove(self.free()[0])
            self.evictions += 1
        slot, is_new = self.slots.take(key)
        assert is_new is not held
        assert not held or slot == self.slot_of[key]
        self.slot_of[key] = slot
        self.users[key] = self.users[key] + 1 if held else 1
        self.order = [one for one in self.order if one != key] + [key]

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def release(self, data):
        key = data.draw(st.sampled_from(self.order))
        if not self.users[key]:
            with pytest.raises(ValueError, match="released more often"):
                self.slots.release(self.slot_of[key])
            return
        self.slots.release(self.slot_of[key])
        self.users[key] -= 1
        self.order = [one for one in self.order if one != key] + [key]

    @precondition(lambda self: self.order)
    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data, pinned):
        key = data.draw(st.sampled_from(self.order))
        self.slots.pin(self.slot_of[key], pinned)
        (self.pinned.add if pinned else self.pinned.discard)(key)

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def forget(self, data):
        key = data.draw(st.sampled_from(self.order))
        self.slots.forget(self.slot_of[key])
        self.order.remove(key)
        self.pinned.discard(key)

    @invariant()
    def nobody_shares_a_slot(self):
        held = [self.slot_of[key] for key in self.order]
        assert len(set(held)) == len(held) <= COUNT
        assert set(held) <= set(range(COUNT))

    @invariant()
    def only_what_is_in_use_may_be_drawn_with(self):
        for slot in range(COUNT):
            if any(self.slot_of[key] == slot and self.users[key] for key in self.order):
                self.slots.check_in_use([slot])
            else:
                with pytest.raises(ValueError, match="not acquired"):
                    self.slots.check_in_use([slot])

    @invariant()
    def evictions_are_counted(self):
        assert self.slots.counts.evictions == self.evictions


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_loads_and_hits_are_counted():
    slots = Slots(1)
    for key in "aaba":
        slot, _ = slots.take(key)
        slots.release(slot)
    assert slots.counts == SlotCounts(loads=3, hits=1, evictions=2)


def test_an_empty_slot_can_be_neither_released_nor_pinned():
    slots = Slots(1)
    for change in (slots.release, lambda slot: slots.pin(slot, True), slots.forget):
        with pytest.raises(ValueError, match="slot 0 holds no adapter"):
            change(0)
