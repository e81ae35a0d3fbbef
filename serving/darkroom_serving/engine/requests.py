"""What is drawn: one picture with every choice made, and why there may be none."""

from dataclasses import dataclass

from darkroom_sampling.samplers import Sampler


class StoppedError(Exception):
    """Nobody waits for the images any more."""


class NotFiniteError(Exception):
    """What was drawn has numbers that are none (NaN) or infinite: it is no picture."""


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

    @property
    def is_guided(self) -> bool:
        """Whether there is guidance: not with a scale of 1 or less, as in diffusers' pipelines."""
        return self.guidance_scale > 1
