"""Names that clients have for the samplers: AUTOMATIC1111's, ComfyUI's and diffusers' classes."""

import re
from typing import Final

from darkroom_sampling.samplers import SPECS, Sampler

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
"""What its web interface and its API call them."""

_COMFY: Final = {
    "euler_ancestral": Sampler.EULER_A,
    "dpmpp_2m": Sampler.DPMSOLVER,
    "uni_pc": Sampler.UNIPC,
}


def sampler_named(name: str) -> str:
    """Our name of a sampler; the name itself where there is no such sampler."""
    return _NAMES.get(_plain(name), name)


def _plain(name: str) -> str:
    """Without what clients write differently: capitals, spaces, k_ before and Scheduler behind."""
    plain = re.sub(r"[^a-z0-9+]", "", name.lower().removeprefix("k_"))
    return plain.removesuffix("scheduler")


_NAMES: Final[dict[str, Sampler]] = {
    **{_plain(sampler): sampler for sampler in Sampler},
    **{_plain(label): sampler for sampler, label in AUTOMATIC1111.items()},
    **{_plain(spec.class_name): sampler for sampler, spec in SPECS.items()},
    **{_plain(label): sampler for label, sampler in _COMFY.items()},
}
