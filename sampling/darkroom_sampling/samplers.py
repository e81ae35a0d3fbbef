"""Samplers by name: diffusers' schedulers, configured as the model's own one."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np


class Sampler(StrEnum):
    """What can be chosen.

    `_karras` and `_exponential` space the noise levels so (arXiv 2206.00364, equation 5; even logarithms);
    the others space them as the model's own scheduler does.
    """

    DDIM = "ddim"
    DDPM = "ddpm"
    DEIS = "deis"
    DPMSOLVER = "dpmsolver++"
    DPMSOLVER_KARRAS = "dpmsolver++_karras"
    DPMSOLVER_2S = "dpmsolver++_2s"
    DPMSOLVER_2S_KARRAS = "dpmsolver++_2s_karras"
    DPMSOLVER_3M = "dpmsolver++_3m"
    DPMSOLVER_3M_KARRAS = "dpmsolver++_3m_karras"
    DPMSOLVER_3M_SDE = "dpmsolver++_3m_sde"
    DPMSOLVER_3M_SDE_EXPONENTIAL = "dpmsolver++_3m_sde_exponential"
    DPMSOLVER_3M_SDE_KARRAS = "dpmsolver++_3m_sde_karras"
    DPMSOLVER_SDE = "dpmsolver++_sde"
    DPMSOLVER_SDE_EXPONENTIAL = "dpmsolver++_sde_exponential"
    DPMSOLVER_SDE_KARRAS = "dpmsolver++_sde_karras"
    EULER = "euler"
    EULER_EXPONENTIAL = "euler_exponential"
    EULER_KARRAS = "euler_karras"
    EULER_A = "euler_a"
    HEUN = "heun"
    HEUN_KARRAS = "heun_karras"
    KDPM2 = "kdpm2"
    KDPM2_KARRAS = "kdpm2_karras"
    KDPM2_A = "kdpm2_a"
    KDPM2_A_KARRAS = "kdpm2_a_karras"
    LCM = "lcm"
    PNDM = "pndm"
    SA_SOLVER = "sa_solver"
    TCD = "tcd"
    UNIPC = "unipc"
    UNIPC_KARRAS = "unipc_karras"


_NOISE_OR_VELOCITY: Final = frozenset({"epsilon", "v_prediction"})
_ALSO_PICTURES: Final = _NOISE_OR_VELOCITY | {"sample"}


@dataclass(frozen=True)
class SamplerSpec:
    """How a sampler is made with diffusers."""

    class_name: str
    """The scheduler's class."""

    takes_generator: bool
    """Whether its step draws noise, or at least has the parameter."""

    takes_eta: bool = False
    """Whether it can add a share of noise in each step (arXiv 2010.02502, equation 16; gamma of arXiv 2402.19159)."""

    evenly_spaced: bool = False
    """Whether noise levels run evenly from pure noise on, before they are shifted, as Z-Image's pipeline has them."""

    spaced: bool = False
    """Whether noise levels are spaced by how much more noise than picture there is."""

    distilled: bool = False
    """Whether it is for models distilled to few steps, chosen among those of their teacher."""

    predictions: frozenset[str] = _ALSO_PICTURES
    """What its class can read: values of `prediction_type`."""

    overrides: dict[str, Any] = field(default_factory=dict)
    """What is set whatever the model's configuration says."""


_NO_CLIPPING: Final = {"clip_sample": False}
"""Latents are not within [-1, 1]: clipping, a default of some, would spoil them."""


def _dpmsolver(order: int, algorithm: str = "dpmsolver++") -> SamplerSpec:
    overrides = {"algorithm_type": algorithm, "solver_order": order}
    return SamplerSpec("DPMSolverMultistepScheduler", True, overrides=overrides)


_OWN_SPACING: Final = {
    Sampler.DDIM: SamplerSpec("DDIMScheduler", True, takes_eta=True, overrides=_NO_CLIPPING),
    Sampler.DDPM: SamplerSpec("DDPMScheduler", True, overrides=_NO_CLIPPING),
    Sampler.DEIS: SamplerSpec(
        "DEISMultistepScheduler", False, overrides={"algorithm_type": "deis", "solver_order": 2}
    ),
    Sampler.DPMSOLVER: _dpmsolver(2),
    Sampler.DPMSOLVER_2S: SamplerSpec(
        "DPMSolverSinglestepScheduler",
        True,
        # Without lower orders at the end it can do even numbers of steps only.
        overrides={"algorithm_type": "dpmsolver++", "solver_order": 2, "lower_order_final": True},
    ),
    Sampler.DPMSOLVER_3M: _dpmsolver(3),
    Sampler.DPMSOLVER_3M_SDE: _dpmsolver(3, "sde-dpmsolver++"),
    Sampler.DPMSOLVER_SDE: _dpmsolver(2, "sde-dpmsolver++"),
    Sampler.EULER: SamplerSpec("EulerDiscreteScheduler", True),
    Sampler.EULER_A: SamplerSpec(
        "EulerAncestralDiscreteScheduler", True, predictions=_NOISE_OR_VELOCITY
    ),
    Sampler.HEUN: SamplerSpec("HeunDiscreteScheduler", False, overrides=_NO_CLIPPING),
    Sampler.KDPM2: SamplerSpec("KDPM2DiscreteScheduler", False, predictions=_NOISE_OR_VELOCITY),
    Sampler.KDPM2_A: SamplerSpec(
        "KDPM2AncestralDiscreteScheduler", True, predictions=_NOISE_OR_VELOCITY
    ),
    Sampler.LCM: SamplerSpec("LCMScheduler", True, distilled=True, overrides=_NO_CLIPPING),
    Sampler.PNDM: SamplerSpec(
        "PNDMScheduler", False, predictions=_NOISE_OR_VELOCITY, overrides={"skip_prk_steps": True}
    ),
    Sampler.SA_SOLVER: SamplerSpec(
        "SASolverScheduler", True, overrides={"algorithm_type": "data_prediction"}
    ),
    Sampler.TCD: SamplerSpec(
        "TCDScheduler", True, takes_eta=True, distilled=True, overrides=_NO_CLIPPING
    ),
    Sampler.UNIPC: SamplerSpec("UniPCMultistepScheduler", False),
}

_SPACINGS: Final = {
    "karras": {"use_karras_sigmas": True, "use_exponential_sigmas": False},
    "exponential": {"use_karras_sigmas": False, "use_exponential_sigmas": True},
}
"""Spacings of noise levels: what samplers whose names end so set."""

_OTHER_SPACINGS: Final = {"use_beta_sigmas": False, "use_lu_lambdas": False}


def _spec(sampler: Sampler) -> SamplerSpec:
    plain, _, spacing = sampler.rpartition("_")
    if spacing not in _SPACINGS:
        return _OWN_SPACING[sampler]
    spec = _OWN_SPACING[Sampler(plain)]
    overrides = spec.overrides | _SPACINGS[spacing] | _OTHER_SPACINGS
    return replace(spec, spaced=True, overrides=overrides)


SPECS: Final = {sampler: _spec(sampler) for sampler in Sampler}
"""For models of noise, the usual one first."""

FLOW_SPECS: Final = {
    Sampler.EULER: SamplerSpec("FlowMatchEulerDiscreteScheduler", False, evenly_spaced=True)
}
"""For models that match flows."""


def samplers_of_noise(model_config: Mapping[str, Any]) -> Mapping[Sampler, SamplerSpec]:
    """Those of `SPECS` that can read a model's predictions and have its noise levels.

    Raises ValueError when none suits.
    """
    prediction = model_config.get("prediction_type", "epsilon")
    pure = bool(model_config.get("rescale_betas_zero_snr"))
    found = {
        sampler: spec
        for sampler, spec in SPECS.items()
        if prediction in spec.predictions and (not pure or _begins_with_pure_noise(spec))
    }
    if not found:
        raise ValueError(
            f"scheduler_config.json: prediction_type: no sampler can read {prediction};"
            f" use one of {', '.join(sorted(_ALSO_PICTURES))}"
        )
    return found


def _begins_with_pure_noise(spec: SamplerSpec) -> bool:
    """Whether it has `rescale_betas_zero_snr` (arXiv 2305.08891), and steps that a model knows of then.

    Without a largest ratio of noise to picture, most of the levels spaced by it are above all that were trained.
    """
    import diffusers

    options = inspect.signature(getattr(diffusers, spec.class_name)).parameters
    return "rescale_betas_zero_snr" in options and not spec.spaced


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
    if spacing in _OWN_SCHEDULE:
        return _BY_NAME.get(plain)
    found = _BY_NAME.get(plain.removesuffix(spacing))
    return (
        None
        if found is None or spacing not in _SPACINGS
        else _BY_NAME.get(_plain(f"{found}_{spacing}"))
    )


_OWN_SCHEDULE: Final = ("", "automatic")
"""Of AUTOMATIC1111's schedules, those by which noise levels are spaced as the model's own."""

_LABELS: Final = {
    Sampler.DDIM: "DDIM",
    Sampler.DDPM: "DDPM",
    Sampler.DEIS: "DEIS",
    Sampler.DPMSOLVER: "DPM++ 2M",
    Sampler.DPMSOLVER_2S: "DPM++ 2S",
    Sampler.DPMSOLVER_3M: "DPM++ 3M",
    Sampler.DPMSOLVER_3M_SDE: "DPM++ 3M SDE",
    Sampler.DPMSOLVER_SDE: "DPM++ 2M SDE",
    Sampler.EULER: "Euler",
    Sampler.EULER_A: "Euler a",
    Sampler.HEUN: "Heun",
    Sampler.KDPM2: "DPM2",
    Sampler.KDPM2_A: "DPM2 a",
    Sampler.LCM: "LCM",
    Sampler.PNDM: "PLMS",
    Sampler.SA_SOLVER: "SA-Solver",
    Sampler.TCD: "TCD",
    Sampler.UNIPC: "UniPC",
}


def _label(sampler: Sampler) -> str:
    plain, _, spacing = sampler.rpartition("_")
    if spacing not in _SPACINGS:
        return _LABELS[sampler]
    return f"{_LABELS[Sampler(plain)]} {spacing.capitalize()}"


AUTOMATIC1111: Final = {sampler: _label(sampler) for sampler in Sampler}
"""What AUTOMATIC1111's web interface and its API call the samplers; the others are named in its style."""

_COMFY: Final = {
    "dpm_2": Sampler.KDPM2,
    "dpm_2_ancestral": Sampler.KDPM2_A,
    "dpmpp_2m": Sampler.DPMSOLVER,
    "dpmpp_2m_sde": Sampler.DPMSOLVER_SDE,
    "dpmpp_3m_sde": Sampler.DPMSOLVER_3M_SDE,
    "euler_ancestral": Sampler.EULER_A,
    "uni_pc": Sampler.UNIPC,
    "uni_pc_bh2": Sampler.UNIPC,
}


def _plain(name: str) -> str:
    """Without what programs write differently: capitals, spaces, k_ before and Scheduler behind."""
    plain = re.sub(r"[^a-z0-9+]", "", name.lower().removeprefix("k_"))
    return plain.removesuffix("scheduler")


_BY_NAME: Final[dict[str, Sampler]] = {
    # Of the samplers of a class the plainest counts, which stands last here.
    **{_plain(SPECS[sampler].class_name): sampler for sampler in reversed(_OWN_SPACING)},
    **{_plain(spec.class_name): sampler for sampler, spec in FLOW_SPECS.items()},
    **{_plain(label): sampler for label, sampler in _COMFY.items()},
    **{_plain(label): sampler for sampler, label in AUTOMATIC1111.items()},
    **{_plain(sampler): sampler for sampler in Sampler},
}
