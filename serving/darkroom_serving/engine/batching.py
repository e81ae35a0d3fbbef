"""The engine: pictures of all requests are drawn together, a step at a time, by one thread that owns the device.

In each pass the denoiser takes a step of any pictures of one model and one size, whatever their prompts,
samplers, numbers of steps, guidance and seeds. Pictures join before any step, and leave after their last
one or as soon as nobody waits for them; the others never notice.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Protocol

import torch
from torch import Tensor

from darkroom_sampling.model import DiffusionModel
from darkroom_sampling.pixels import Pixels, to_pixels
from darkroom_sampling.trajectory import Guidance, Trajectory, advance, begin
from darkroom_serving.engine.padding import padded, rows_of_a_pass
from darkroom_serving.engine.requests import DrawRequest, NotFiniteError, StoppedError
from darkroom_serving.engine.turns import Work, first_due, least_served, with_groups

MEMORY: Final = 0.8
"""How much of what a pass took before counts beside what the last one took."""

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Draws requests with one model; the picture of a request never depends on the others."""

    def draw(
        self, model: DiffusionModel, requests: Sequence[DrawRequest], stopped: Callable[[], bool]
    ) -> list[Pixels]:
        """The pictures, in order; raises StoppedError soon after `stopped` turned true.

        Raises NotFiniteError when one of them is no picture. May be called by many threads at once;
        `stopped` is asked by another one.
        """
        ...


@dataclass(eq=False)
class _Order:
    """The pictures that one caller waits for."""

    model: DiffusionModel
    requests: Sequence[DrawRequest]
    stopped: Callable[[], bool]
    arrived_s: float = field(default_factory=time.monotonic)
    latents: Future[list[Tensor]] = field(default_factory=Future)
    """Of all its pictures, each (1, C, h, w)."""


@dataclass(eq=False)
class _Picture:
    """One picture on its way."""

    order: _Order
    trajectory: Trajectory
    work: Work
    due_s: float

    @property
    def rows(self) -> int:
        return self.work.rows

    @property
    def group(self) -> "_Group":
        return _Group(id(self.order.model), tuple(self.trajectory.latents.shape))


@dataclass(frozen=True)
class _Group:
    """What pictures have in common that one pass can take together."""

    model: int
    """Identity of a model that one of its orders holds."""

    shape: tuple[int, ...]


class BatchingEngine:
    """See the module. Its thread runs while there is something to draw."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived: list[_Order] = []
        self._is_running = False
        # What follows belongs to the thread.
        self._under_way: dict[_Order, list[_Picture]] = {}
        self._served: dict[_Group, float] = {}
        self._row_cell_s = 0.0

    def draw(
        self, model: DiffusionModel, requests: Sequence[DrawRequest], stopped: Callable[[], bool]
    ) -> list[Pixels]:
        """As `Engine.draw`; the VAE decodes in the caller's thread."""
        order = _Order(model, requests, stopped)
        with self._lock:
            self._arrived.append(order)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, daemon=True, name="engine").start()
        return [_decode(model, latents) for latents in order.latents.result()]

    @torch.inference_mode()
    def _run(self) -> None:
        while self._take_arrivals():
            try:
                self._drop_stopped()
                if self._under_way:
                    self._pass(self._unfinished())
            except Exception as error:  # noqa: BLE001 - handed on: nobody may wait for ever
                for order in list(self._under_way):
                    self._end(order, error)

    def _drop_stopped(self) -> None:
        for order in [one for one in self._under_way if one.stopped()]:
            self._end(order, StoppedError())

    def _unfinished(self) -> list[_Picture]:
        pictures = [picture for order in self._under_way.values() for picture in order]
        return [picture for picture in pictures if not picture.trajectory.finished]

    def _take_arrivals(self) -> bool:
        """Lets the orders that arrived join; whether there is anything to draw: the thread ends without."""
        with self._lock:
            arrived, self._arrived = self._arrived, []
            self._is_running = bool(arrived or self._under_way)
        for order in arrived:
            try:
                self._under_way[order] = self._begin(order)
            except Exception as error:  # noqa: BLE001 - handed on to who waits for the order
                order.latents.set_exception(error)
        return self._is_running

    def _begin(self, order: _Order) -> list[_Picture]:
        texts = {request.prompt for request in order.requests}
        texts |= {one.negative_prompt for one in order.requests if one.is_guided}
        states = {text: order.model.states([text]) for text in texts}
        pictures = []
        for request in order.requests:
            # On the CPU on any machine: a GPU's generator draws other numbers for the same seed.
            generator = torch.Generator("cpu").manual_seed(request.seed)
            guidance = (
                Guidance(states[request.negative_prompt], request.guidance_scale)
                if request.is_guided
                else None
            )
            trajectory = begin(
                order.model,
                _noise(order.model, request, generator),
                states[request.prompt],
                guidance,
                steps=request.steps,
                sampler=request.sampler,
                generator=generator,
                eta=request.eta,
            )
            work = _work_of(trajectory)
            due_s = work.due_s(order.arrived_s, self._row_cell_s)
            pictures.append(_Picture(order, trajectory, work, due_s))
        return pictures

    def _pass(self, pictures: Sequence[_Picture]) -> None:
        """Takes some of the pictures a step further."""
        self._served = with_groups(self._served, [picture.group for picture in pictures])
        group = least_served(self._served)
        together = [picture for picture in pictures if picture.group == group]
        rows = rows_of_a_pass(together[0].order.model)
        chosen = first_due(together, rows)
        started_s = time.perf_counter()
        self._advance(chosen, rows)
        # Every pass has as many rows and costs as much, however many of them are needed.
        cost = rows * chosen[0].work.cells
        self._served[group] += cost
        taken_s = (time.perf_counter() - started_s) / cost
        self._row_cell_s = (
            MEMORY * self._row_cell_s + (1 - MEMORY) * taken_s if self._row_cell_s else taken_s
        )
        for order in {picture.order: None for picture in chosen}:
            self._hand_over(order)

    def _advance(self, pictures: Sequence[_Picture], rows: int) -> None:
        """A step of each; a pass that fails is tried again with each by itself, so that one harms no other."""
        trajectories = [picture.trajectory for picture in pictures]
        positions = [one.position for one in trajectories]
        try:
            advance(padded(pictures[0].order.model.predict, rows), trajectories)
        except Exception as error:  # noqa: BLE001 - handed on to who waits for the order
            if len(pictures) == 1:
                self._end(pictures[0].order, error)
                return
            logger.warning("a pass of %d pictures failed; each by itself", len(pictures))
            for picture, position in zip(pictures, positions, strict=True):
                if picture.trajectory.position == position and picture.order in self._under_way:
                    self._advance([picture], rows)

    def _hand_over(self, order: _Order) -> None:
        """Ends an order whose pictures are all done."""
        pictures = self._under_way.get(order)
        if pictures is not None and all(one.trajectory.finished for one in pictures):
            del self._under_way[order]
            order.latents.set_result([one.trajectory.latents for one in pictures])

    def _end(self, order: _Order, error: Exception) -> None:
        del self._under_way[order]
        order.latents.set_exception(error)


def _work_of(trajectory: Trajectory) -> Work:
    _, _, height, width = trajectory.latents.shape
    return Work(
        steps=len(trajectory.timesteps),
        rows=1 if trajectory.guidance is None else 2,
        cells=height * width,
    )


def _noise(model: DiffusionModel, request: DrawRequest, generator: torch.Generator) -> Tensor:
    """Standard normal latents, (1, C, h, w), in float32: float16 draws would be other numbers."""
    shape = model.latent_shape(request.width, request.height)
    return torch.randn((1, *shape), generator=generator)


@torch.inference_mode()
def _decode(model: DiffusionModel, latents: Tensor) -> Pixels:
    """The picture of latents, (1, C, h, w): by itself, since none may depend on the others."""
    picture = model.codec.decode(latents)[0]
    if not (latents.isfinite().all() and picture.isfinite().all()):
        raise NotFiniteError
    return to_pixels(picture)
