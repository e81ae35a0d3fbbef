"""Samplers by name: diffusers' schedulers, configured as the model's own one."""

import re
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


def sampler_by_name(name: str, schedule: str | None = None) -> Sampler | None:
    """The sampler that other programs call so; None where there is none.

    `name` is ours, AUTOMATIC1111's ("DPM++ 2M Karras"), ComfyUI's ("dpmpp_2m") or the name of a class of
    diffusers; capitals, spaces and underscores don't matter. `schedule` names the spacing of noise levels
    where it is given separately ("Karras"); "Automatic" means the model's own.
    """
    plain, spacing = _plain(name), _plain(schedule or "")
    if spacing in _OWN_SPACING:
        return _BY_NAME.get(plain)
    found = _BY_NAME.get(plain.removesuffix(spacing))
    return None if found is None else _BY_NAME.get(_plain(f"{found}_{spacing}"))


_OWN_SPACING: Final = ("", "automatic")
"""Of AUTOMATIC1111's schedules, those by which noise levels are the model's own."""

AUTOMATIC1111: Final = {
    Sampler.DDIM: "DDIM",
    Sampler.DDPM: "DDPM",
    Sampler.DPMSOLVER: "DPM++ 2M",
    Sampler.EULER: "Euler",
    Sampler.EULER_A: "Euler a",
    Sampler.HEUN: "Heun",
    Sampler.PNDM: "PLMS",
    Sampler.UNIPC: "UniPC",
}
"""What AUTOMATIC1111's web interface and its API call the samplers."""

_COMFY: Final = {
    "euler_ancestral": Sampler.EULER_A,
    "dpmpp_2m": Sampler.DPMSOLVER,
    "uni_pc": Sampler.UNIPC,
}


def _plain(name: str) -> str:
    """Without what programs write differently: capitals, spaces, k_ before and Scheduler behind."""
    plain = re.sub(r"[^a-z0-9+]", "", name.lower().removeprefix("k_"))
    return plain.removesuffix("scheduler")


_BY_NAME: Final[dict[str, Sampler]] = {
    **{_plain(sampler): sampler for sampler in Sampler},
    **{_plain(label): sampler for sampler, label in AUTOMATIC1111.items()},
    **{_plain(spec.class_name): sampler for sampler, spec in SPECS.items()},
    **{_plain(label): sampler for label, sampler in _COMFY.items()},
}
