"""Draws images with a loaded model. `Engine` is the seam for a batching engine; this one is simple."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom_serving.guidance import guided
from darkroom_serving.loading import LoadedModel
from darkroom_serving.prompts import Conditions
from darkroom_serving.samplers import Sampler, build_scheduler, set_steps, step_options

Picture = NDArray[np.uint8]
"""RGB pixels, (H, W, 3)."""


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


class Engine(Protocol):
    """Draws requests with one model; the picture of a request never depends on the others."""

    def draw(
        self, model: LoadedModel, requests: Sequence[DrawRequest], stopped: Callable[[], bool]
    ) -> list[Picture]:
        """The pictures, in order; raises StoppedError soon after `stopped` turned true."""
        ...


class OneByOneEngine:
    """Draws one image after the other.

    A row of a larger batch differs in its last bits from the same row alone, and then in some
    pixels; so that a seed gives the same file whatever `n` is, an image never shares a batch.
    """

    @torch.inference_mode()
    def draw(
        self, model: LoadedModel, requests: Sequence[DrawRequest], stopped: Callable[[], bool]
    ) -> list[Picture]:
        """As `Engine.draw`."""
        texts = {request.prompt for request in requests}
        texts |= {request.negative_prompt for request in requests}
        states = {text: model.prompts.read(text, model.device) for text in texts}
        return [_draw_one(model, request, states, stopped) for request in requests]


def _draw_one(
    model: LoadedModel,
    request: DrawRequest,
    states: dict[str, Conditions],
    stopped: Callable[[], bool],
) -> Picture:
    # On the CPU on any machine: a GPU's generator draws other numbers for the same seed.
    generator = torch.Generator("cpu").manual_seed(request.seed)
    spec = model.sampler_specs[request.sampler]
    scheduler = build_scheduler(spec, model.scheduler_config)
    set_steps(scheduler, spec, request.steps, model.device)
    # Schedulers of flows begin with plain noise, and take latents as they are.
    latents = _noise(model, request, generator) * getattr(scheduler, "init_noise_sigma", 1.0)
    scaled = getattr(scheduler, "scale_model_input", lambda latents, _: latents)
    options = step_options(spec, generator)
    for timestep in scheduler.timesteps:
        if stopped():
            raise StoppedError
        prediction = guided(
            partial(model.predict, timestep),
            scaled(latents, timestep),
            states[request.negative_prompt],
            states[request.prompt],
            request.guidance_scale,
        )
        latents = scheduler.step(
            prediction.float(), timestep, latents, return_dict=False, **options
        )[0]
    return _pixels(model.decode(latents))


def _noise(model: LoadedModel, request: DrawRequest, generator: torch.Generator) -> Tensor:
    """Standard normal latents, (1, C, h, w), in float32: float16 draws would be other numbers."""
    scale = model.latent_scale
    shape = (1, model.denoiser.config.in_channels, request.height // scale, request.width // scale)
    return torch.randn(shape, generator=generator).to(model.device)


def _pixels(picture: Tensor) -> Picture:
    """8-bit pixels, (H, W, 3), of a picture (1, 3, H, W) within [-1, 1]; rounded as diffusers does."""
    unit = (picture[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    rounded: Picture = (unit * 255).round().astype(np.uint8)
    return rounded
