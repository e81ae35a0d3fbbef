"""Samplers by name: diffusers' schedulers, configured as the model's own one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np


class Sampler(StrEnum):
    """What can be chosen."""

    DDIM = "ddim"
    DDPM = "ddpm"
    DPMSOLVER = "dpmsolver++"
    EULER = "euler"
    EULER_A = "euler_a"
    HEUN = "heun"
    PNDM = "pndm"
    UNIPC = "unipc"


@dataclass(frozen=True)
class SamplerSpec:
    """How a sampler is made with diffusers."""

    class_name: str
    """The scheduler's class."""

    takes_generator: bool
    """Whether its step draws noise, or at least has the parameter."""

    takes_eta: bool = False
    """Whether it can add a share of DDPM's noise in each step (arXiv 2010.02502, equation 16)."""

    evenly_spaced: bool = False
    """Whether noise levels run evenly from pure noise on, before they are shifted, as Z-Image's pipeline has them."""

    overrides: dict[str, Any] = field(default_factory=dict)
    """What is set whatever the model's configuration says."""


_NO_CLIPPING: Final = {"clip_sample": False}
"""Latents are not within [-1, 1]: clipping, a default of these two, would spoil them."""

SPECS: Final = {
    Sampler.DDIM: SamplerSpec("DDIMScheduler", True, takes_eta=True, overrides=_NO_CLIPPING),
    Sampler.DDPM: SamplerSpec("DDPMScheduler", True, overrides=_NO_CLIPPING),
    Sampler.DPMSOLVER: SamplerSpec(
        "DPMSolverMultistepScheduler", True, overrides={"algorithm_type": "dpmsolver++"}
    ),
    Sampler.EULER: SamplerSpec("EulerDiscreteScheduler", True),
    Sampler.EULER_A: SamplerSpec("EulerAncestralDiscreteScheduler", True),
    Sampler.HEUN: SamplerSpec("HeunDiscreteScheduler", False),
    Sampler.PNDM: SamplerSpec("PNDMScheduler", False, overrides={"skip_prk_steps": True}),
    Sampler.UNIPC: SamplerSpec("UniPCMultistepScheduler", False),
}


FLOW_SPECS: Final = {
    Sampler.EULER: SamplerSpec("FlowMatchEulerDiscreteScheduler", False, evenly_spaced=True)
}
"""For models that match flows."""


def build_scheduler(spec: SamplerSpec, model_config: Mapping[str, Any]) -> Any:
    """A fresh scheduler: each image needs its own, because schedulers keep state between steps."""
    import diffusers

    return getattr(diffusers, spec.class_name).from_config(dict(model_config), **spec.overrides)


def set_steps(scheduler: Any, spec: SamplerSpec, steps: int, device: Any) -> None:
    """Chooses so many noise levels."""
    if spec.evenly_spaced:
        levels = np.linspace(1.0, 1 / steps, steps).tolist()
        scheduler.set_timesteps(sigmas=levels, device=device)
    else:
        scheduler.set_timesteps(steps, device=device)
