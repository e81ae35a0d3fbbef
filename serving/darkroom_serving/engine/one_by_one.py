"""Draws images with a loaded model. `Engine` is the seam for a batching engine; this one is simple."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from darkroom_sampling.model import DiffusionModel
from darkroom_sampling.pixels import Pixels, decode_pixels
from darkroom_sampling.protocols import Conditions
from darkroom_sampling.samplers import Sampler
from darkroom_sampling.trajectory import Guidance, advance, begin


class StoppedError(Exception):
    """Nobody waits for the images any more."""


@dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """One image, with every choice made."""

    prompt: str
    negative_prompt: str
    width: int
    """In pixels, a multiple of the model's `side_step`."""

    height: int
    """As `width`."""

    steps: int
    guidance_scale: float
    sampler: Sampler
    seed: int

    eta: float = 0.0
    """Share of the noise of DDPM that DDIM adds in each step."""


class Engine(Protocol):
    """Draws requests with one model; the picture of a request never depends on the others."""

    def draw(
        self, model: DiffusionModel, requests: Sequence[DrawRequest], stopped: Callable[[], bool]
    ) -> list[Pixels]:
        """The pictures, in order; raises StoppedError soon after `stopped` turned true."""
        ...


class OneByOneEngine:
    """Draws one image after the other.

    A row of a larger batch differs in its last bits from the same row alone, and then in some
    pixels; so that a seed gives the same file whatever `n` is, an image never shares a batch.
    """

    @torch.inference_mode()
    def draw(
        self, model: DiffusionModel, requests: Sequence[DrawRequest], stopped: Callable[[], bool]
    ) -> list[Pixels]:
        """As `Engine.draw`."""
        texts = {request.prompt for request in requests}
        texts |= {request.negative_prompt for request in requests}
        states = {text: model.states([text]) for text in texts}
        return [_draw_one(model, request, states, stopped) for request in requests]


def _draw_one(
    model: DiffusionModel,
    request: DrawRequest,
    states: Mapping[str, Conditions],
    stopped: Callable[[], bool],
) -> Pixels:
    # On the CPU on any machine: a GPU's generator draws other numbers for the same seed.
    generator = torch.Generator("cpu").manual_seed(request.seed)
    guidance = Guidance(states[request.negative_prompt], request.guidance_scale)
    trajectory = begin(
        model,
        _noise(model, request, generator),
        states[request.prompt],
        # With a scale of 1 or less there is none, as in diffusers' pipelines.
        guidance if request.guidance_scale > 1 else None,
        steps=request.steps,
        sampler=request.sampler,
        generator=generator,
        eta=request.eta,
    )
    while not trajectory.finished:
        if stopped():
            raise StoppedError
        advance(model.predict, [trajectory])
    (picture,) = decode_pixels(model.codec, trajectory.latents)
    return picture


def _noise(model: DiffusionModel, request: DrawRequest, generator: torch.Generator) -> Tensor:
    """Standard normal latents, (1, C, h, w), in float32: float16 draws would be other numbers."""
    shape = model.latent_shape(request.width, request.height)
    return torch.randn((1, *shape), generator=generator)
