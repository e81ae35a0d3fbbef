"""From noise to pictures a step at a time: one pass of the denoiser takes any number of pictures a step further."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darkroom_sampling.model import DiffusionModel
from darkroom_sampling.originals import Kept, Original, from_noise, from_original
from darkroom_sampling.protocols import Conditions
from darkroom_sampling.samplers import Sampler, SamplerSpec, build_scheduler, set_steps

Predict = Callable[[Tensor, Tensor, Conditions], Tensor]
"""What a denoiser says, (R, C, h, w), of latents of that shape at timesteps (R,) under R conditions."""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (arXiv 2207.12598, equation 6)."""

    conditions: Conditions
    """Without the prompt, (B, …): of the empty prompt, or of what is not to be seen."""

    scale: float


@dataclass(kw_only=True)
class Trajectory:
    """B latents on their way from noise to pictures, by one sampler; each step replaces them.

    Diffusers' schedulers keep state between steps, and so does this.
    """

    scheduler: Any
    timesteps: Tensor
    """Of all steps, (S,)."""

    latents: Tensor
    """(B, C, h, w) in float32."""

    conditions: Conditions
    """Of the prompts, (B, …)."""

    guidance: Guidance | None
    options: Mapping[str, Any]
    """What the scheduler's `step` takes beside the latents."""

    kept: Kept | None = None
    """What is not drawn anew of original pictures."""

    position: int = 0
    """Steps taken."""

    @property
    def finished(self) -> bool:
        """Whether the last step is taken."""
        return self.position == len(self.timesteps)

    def asked(self) -> tuple[Tensor, Tensor]:
        """What the next step asks the denoiser about: latents (B, C, h, w) and timesteps (B,)."""
        timestep = self.timesteps[self.position]
        # Schedulers of flows take latents as they are.
        scale = getattr(self.scheduler, "scale_model_input", lambda latents, _: latents)
        return scale(self.latents, timestep), timestep.expand(len(self.latents))

    def take(self, prediction: Tensor) -> None:
        """Takes the next step, by what was said of what was asked."""
        timestep = self.timesteps[self.position]
        self.latents = self.scheduler.step(
            prediction.float(), timestep, self.latents, return_dict=False, **self.options
        )[0]
        self.position += 1
        if self.kept is not None:
            following = self.timesteps[self.position : self.position + 1]
            self.latents = self.kept.within(self.latents, self.scheduler, following)


def begin(
    model: DiffusionModel,
    noise: Tensor,
    conditions: Conditions,
    guidance: Guidance | None,
    *,
    steps: int,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
    eta: float = 0.0,
    original: Original | None = None,
) -> Trajectory:
    """The trajectory of B pictures from standard normal noise, (B, C, h, w) in float32, under B conditions.

    By the model's usual sampler when none is named; `generator` draws the noise that some samplers add,
    `eta` says how much of it with DDIM and TCD. Raises ValueError for an eta that the sampler has no use for, and
    for a strength that leaves no step to take.
    """
    spec = model.samplers[sampler or next(iter(model.samplers))]
    scheduler = build_scheduler(spec, model.scheduler_config)
    set_steps(scheduler, spec, steps, model.device)
    noise = noise.to(model.device)
    start = (
        from_noise(scheduler, noise)
        if original is None
        else from_original(scheduler, noise, original, steps)
    )
    return Trajectory(
        scheduler=scheduler,
        timesteps=start.timesteps,
        latents=start.latents,
        conditions=conditions,
        guidance=guidance,
        options=_step_options(spec, generator, eta),
        kept=start.kept,
    )


def _step_options(
    spec: SamplerSpec, generator: torch.Generator | None, eta: float
) -> Mapping[str, Any]:
    options: dict[str, Any] = {"generator": generator} if spec.takes_generator else {}
    if eta and not spec.takes_eta:
        raise ValueError(f"eta: {spec.class_name} has none; leave it out")
    return options | {"eta": eta} if spec.takes_eta else options


@torch.no_grad()
def advance(predict: Predict, trajectories: Sequence[Trajectory]) -> None:
    """Takes each trajectory a step further, all in one pass of the denoiser.

    Their latents have one shape; noise levels, samplers and guidance are each one's own. A guided one
    has two rows for each latent in the pass, others have one.
    """
    asked = [one.asked() for one in trajectories]
    prompted = [(*of, one.conditions) for of, one in zip(asked, trajectories, strict=True)]
    unprompted = [
        (*of, one.guidance.conditions)
        for of, one in zip(asked, trajectories, strict=True)
        if one.guidance is not None
    ]
    said = _in_one_pass(predict, [*unprompted, *prompted])
    without_prompt = iter(said[: len(unprompted)])
    for one, prediction in zip(trajectories, said[len(unprompted) :], strict=True):
        if one.guidance is not None:
            prediction = guided(next(without_prompt), prediction, one.guidance.scale)
        one.take(prediction)


def guided(without_prompt: Tensor, with_prompt: Tensor, scale: float) -> Tensor:
    """What classifier-free guidance makes of two predictions."""
    return without_prompt + scale * (with_prompt - without_prompt)


def draw(predict: Predict, trajectory: Trajectory) -> Tensor:
    """Takes all steps that are left; the latents of the pictures, (B, C, h, w)."""
    while not trajectory.finished:
        advance(predict, [trajectory])
    return trajectory.latents


def _in_one_pass(
    predict: Predict, rows: Sequence[tuple[Tensor, Tensor, Conditions]]
) -> Sequence[Tensor]:
    """What is said of each group of rows: latents, timesteps and conditions."""
    latents, timesteps, conditions = zip(*rows, strict=True)
    said = predict(
        torch.cat(latents),
        torch.cat(timesteps),
        {name: torch.cat([one[name] for one in conditions]) for name in conditions[0]},
    )
    return torch.split(said, [len(one) for one in latents])
