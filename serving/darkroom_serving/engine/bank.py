"""A bank of adapters in one network: each row of a batch has its own, and more are loaded while it runs.

For each layer that an adapter changes, the two factors of all adapters are stacked; what a row's adapters add
is a batched product with the factors of each row's slot (as in Punica, arXiv 2310.18547, and S-LoRA, 2311.03285).
All slots have one rank, padded with zeros: so loading is a copy, no tensor ever moves, and the bits of a row
depend neither on what other rows have nor on what was loaded before.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from darkroom_serving.engine.adapters import Layer, LowRank, Updates
from darkroom_serving.engine.slots import SlotCounts, Slots

Mix = Sequence[tuple[int, float]]
"""The adapters of a row, which add up: slot and scale of each; empty for the network itself."""


@dataclass(frozen=True)
class _Table:
    """The factors of all adapters at one layer; those of the last slot are zeros, for rows without any."""

    layer: Layer
    down: Tensor
    """(S + 1, R, in, …), R the bank's rank."""

    up: Tensor
    """(S + 1, out, R)."""

    @classmethod
    def empty(cls, layer: Layer, slots: int, rank: int) -> "_Table":
        outputs, *inputs = layer.weight.shape
        new = layer.weight.new_zeros
        return cls(layer, new(slots + 1, rank, *inputs), new(slots + 1, outputs, rank))

    def write(self, slot: int, update: LowRank | None) -> None:
        """Puts an adapter's factors, or zeros, into a slot."""
        self.down[slot].zero_()
        self.up[slot].zero_()
        if update is not None:
            self.down[slot, : update.rank].copy_(update.down)
            self.up[slot, :, : update.rank].copy_(update.up)

    def added(self, inputs: Tensor, outputs: Tensor, slots: Tensor, scales: Tensor) -> Tensor:
        """The layer's outputs (B, …) and what the adapters in `slots` (B,) add, times `scales` (B,)."""
        if isinstance(self.layer, nn.Conv2d):
            narrow = _scaled(self._convolved(inputs, self.layer, slots), scales)
            wide = torch.baddbmm(outputs.flatten(2), self.up[slots], narrow)
        else:
            flat = inputs.reshape(len(inputs), -1, inputs.shape[-1])
            narrow = _scaled(torch.bmm(flat, self.down[slots].transpose(1, 2)), scales)
            before = outputs.reshape(len(outputs), -1, outputs.shape[-1])
            wide = torch.baddbmm(before, narrow, self.up[slots].transpose(1, 2))
        return wide.reshape(outputs.shape)

    def _convolved(self, inputs: Tensor, layer: nn.Conv2d, slots: Tensor) -> Tensor:
        """(B, R, h * w): each row by its own kernel, as one group of a grouped convolution."""
        rows = len(inputs)
        narrow = functional.conv2d(
            inputs.reshape(1, -1, *inputs.shape[2:]),
            self.down[slots].flatten(0, 1),
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=rows,
        )
        return narrow.reshape(rows, self.down.shape[1], -1)


def _scaled(values: Tensor, scales: Tensor) -> Tensor:
    """Multiplied in float32: half precision would round a scale of 0.7."""
    return (values * scales[:, None, None]).to(values.dtype)


@dataclass(frozen=True)
class _Rows:
    """The adapters of the rows of a batch."""

    count: int
    """B."""

    mixes: Sequence[tuple[Tensor, Tensor]]
    """Slots (B,) and scales (B,) of each row's first adapter, of each row's second, and so on."""

    layers: frozenset[str]
    """Which layers they change: at others there is nothing to add."""


class _OfThread(threading.local):
    """What a thread has set."""

    rows: _Rows | None = None


class AdapterBank:
    """Adapters in one network, a denoiser or a text encoder, whose own weights stay as they are.

    Memory of a layer is taken when the first adapter changes it: (slots + 1) * rank * (in + out) numbers.
    Any thread may acquire and release at any time. On a GPU all copies and passes must be on the device's
    default stream, as they are unless a thread says otherwise: then no copy overtakes a pass.
    """

    def __init__(self, network: nn.Module, slots: int, rank: int) -> None:
        """`rank` is the largest that an adapter may have: each costs as much as one of that rank."""
        self._network = network
        self._num_slots = slots
        self._rank = rank
        # For the slots and the loads; held for moments, never while an adapter is read or copied.
        self._lock = threading.Lock()
        self._slots = Slots(slots)
        self._loads: dict[int, Future[None]] = {}
        # For the tables: one adapter is loaded at a time.
        self._loading = threading.Lock()
        self._tables: dict[str, _Table] = {}
        self._changed: list[frozenset[str]] = [frozenset()] * slots
        self._now = _OfThread()

    @property
    def counts(self) -> SlotCounts:
        """Loads, hits and evictions so far."""
        return self._slots.counts

    @property
    def allocated_bytes(self) -> int:
        """Memory of all slots on the network's device."""
        tables = list(self._tables.values())
        return sum(table.down.nbytes + table.up.nbytes for table in tables)

    def acquire(self, key: str, read: Callable[[], Updates]) -> int:
        """The slot of an adapter, which it keeps until it is released as often as it was acquired.

        `key` says which contents it has, such as its digest; `read` is called when it has no slot yet. Raises
        NoFreeSlotError when all are in use, ValueError for an adapter above the bank's rank, and what `read`
        raises; then it counts as not acquired. Who asks for an adapter that another thread loads waits for it.
        """
        with self._lock:
            slot, is_new = self._slots.take(key)
            if is_new:
                self._loads[slot] = Future()
            load = self._loads[slot]
        if is_new:
            self._load(slot, read, load)
        load.result()
        return slot

    def release(self, slot: int) -> None:
        """Ends one use of a slot; nobody may be in a pass that uses it unless it was acquired again."""
        with self._lock:
            self._slots.release(slot)

    def pin(self, slot: int, pinned: bool = True) -> None:
        """Keeps the adapter of a slot when nobody uses it, or no longer."""
        with self._lock:
            self._slots.pin(slot, pinned)

    @contextmanager
    def applied(self, mixes: Sequence[Mix]) -> Iterator[None]:
        """Within, the network takes batches of `len(mixes)` rows in this thread, each with its own adapters.

        Raises ValueError for slots that are not acquired; the network does for a batch of other size.
        """
        before = self._now.rows
        self._now.rows = self._rows(mixes)
        try:
            yield
        finally:
            self._now.rows = before

    def _rows(self, mixes: Sequence[Mix]) -> _Rows | None:
        used = {slot for mix in mixes for slot, _ in mix}
        with self._lock:
            self._slots.check_in_use(used)
        layers = frozenset[str]().union(*(self._changed[slot] for slot in used))
        if not layers:
            return None
        nothing = (self._num_slots, 0.0)
        places = range(max(len(mix) for mix in mixes))
        filled = [
            [mix[place] if place < len(mix) else nothing for mix in mixes] for place in places
        ]
        device = next(self._network.parameters()).device
        slots = torch.tensor([[slot for slot, _ in row] for row in filled], device=device)
        scales = torch.tensor([[scale for _, scale in row] for row in filled], device=device)
        return _Rows(len(mixes), list(zip(slots, scales, strict=True)), layers)

    def _load(self, slot: int, read: Callable[[], Updates], load: Future[None]) -> None:
        """Loads a new adapter, and tells those who wait; a failure is theirs, too."""
        try:
            updates = read()
            with self._loading:
                self._write(slot, updates)
        except BaseException as error:  # noqa: BLE001 - handed on: nobody may wait for ever
            with self._lock:
                self._slots.forget(slot)
            load.set_exception(error)
        else:
            load.set_result(None)

    # Tensors made in inference mode can't be written outside of it, and threads differ in that.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _write(self, slot: int, updates: Updates) -> None:
        for name, update in updates.items():
            if update.rank > self._rank:
                raise ValueError(
                    f"{name}: has rank {update.rank}, and the bank takes {self._rank}:"
                    " give the bank a larger rank, or train a smaller adapter"
                )
        for name in updates.keys() - self._tables.keys():
            self._add_table(name)
        for name, table in self._tables.items():
            table.write(slot, updates.get(name))
        self._changed[slot] = frozenset(updates)

    def _add_table(self, name: str) -> None:
        layer: Any = self._network.get_submodule(name)
        self._tables[name] = _Table.empty(layer, self._num_slots, self._rank)
        layer.register_forward_hook(partial(self._add, name))

    def _add(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> Any:
        """Hook of a layer; None leaves its outputs as they are."""
        rows = self._now.rows
        if rows is None or name not in rows.layers:
            return None
        if len(inputs[0]) != rows.count:
            raise ValueError(
                f"{name}: was given {len(inputs[0])} rows, and adapters are set for {rows.count}"
            )
        table = self._tables[name]
        for slots, scales in rows.mixes:
            outputs = table.added(inputs[0], outputs, slots, scales)
        return outputs
