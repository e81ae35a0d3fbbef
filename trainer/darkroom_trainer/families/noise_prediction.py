"""The objective of models that predict the noise or the velocity at noise levels made of betas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class NoisePrediction:
    """Noise levels of T steps (DDPM, arXiv 2006.11239)."""

    alphas_cumprod: Tensor
    """Share of signal at each noise level, (T,)."""

    prediction_type: PredictionType
    """What the denoiser was trained to say."""

    scheduler_config: dict[str, Any]
    """Of the base's own scheduler; training takes its betas and prediction type."""

    def draw_timesteps(self, generators: Sequence[np.random.Generator]) -> Tensor:
        """As `Objective.draw_timesteps`: uniform whole numbers."""
        high = len(self.alphas_cumprod)
        return torch.tensor([int(one.integers(high)) for one in generators], dtype=torch.int64)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """As `Objective.add_noise` (DDPM, arXiv 2006.11239, equation 4)."""
        signal, spread = self._coefficients(timesteps)
        return signal * latents + spread * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noise, or the velocity (arXiv 2202.00512, appendix D)."""
        if self.prediction_type == "epsilon":
            return noise
        signal, spread = self._coefficients(timesteps)
        return signal * noise - spread * latents

    def weights(self, timesteps: Tensor, snr_gamma: float) -> Tensor:
        """As `Objective.weights` (arXiv 2303.09556, equation 5 and appendix).

        Where nothing of the signal is left (zero terminal SNR) the noise has weight 1, the velocity 0.
        """
        alpha_bar = self.alphas_cumprod[timesteps]
        snr = alpha_bar / (1 - alpha_bar)
        if self.prediction_type == "epsilon":
            return (snr_gamma / snr).clamp(max=1)
        return snr.clamp(max=snr_gamma) / (snr + 1)

    def _coefficients(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Square roots of alpha-bar and 1 - alpha-bar at the timesteps, shaped (B, 1, 1, 1)."""
        alpha_bar = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def load_objective(folder: Path, class_name: str, device: torch.device) -> NoisePrediction:
    """The objective that a scheduler's configuration describes; errors as `read_scheduler`."""
    scheduler = read_scheduler(folder, class_name)
    return NoisePrediction(
        alphas_cumprod=scheduler.alphas_cumprod.to(device),
        prediction_type=cast(PredictionType, scheduler.config.prediction_type),
        scheduler_config=dict(scheduler.config),
    )


def read_scheduler(folder: Path, class_name: str) -> Any:
    """A DDPMScheduler of diffusers with the noise levels of a scheduler of that class.

    The class itself reads the configuration first: each has defaults of its own for what is not there.
    Raises ValueError for one that diffusers doesn't have, or whose noise levels aren't made of betas.
    """
    import diffusers

    cls = getattr(diffusers, class_name, None)
    if cls is None:
        raise ValueError(f"diffusers {diffusers.__version__} has no {class_name}")
    own = cls.from_pretrained(folder, local_files_only=True)
    if getattr(own, "alphas_cumprod", None) is None:
        raise ValueError(f"the noise levels of {class_name} are not made of betas")
    config = dict(own.config)
    config.pop("_use_default_values", None)  # its defaults count, not those of DDPM
    scheduler = diffusers.DDPMScheduler.from_config(config)
    if len(scheduler.alphas_cumprod) != own.config.num_train_timesteps:
        raise ValueError("it has another number of betas than num_train_timesteps says")
    if not torch.isfinite(scheduler.alphas_cumprod).all():
        raise ValueError("its betas make noise levels that are not finite")
    if not torch.allclose(scheduler.alphas_cumprod, own.alphas_cumprod.float(), atol=1e-6):
        raise ValueError(f"{class_name} shifts the noise levels that its betas make")
    return scheduler
