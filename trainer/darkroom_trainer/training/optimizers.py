"""The optimizer of a job: torch's AdamW, bitsandbytes' with 8-bit moments, or Prodigy."""

from collections.abc import Iterable
from typing import Final

from torch import nn, optim

from darkroom_api.training import Optimizer, Training

WEIGHT_DECAY: Final = 0.01
"""torch's default for AdamW, which the paper's reimplementations use; Prodigy's authors advise it, too."""


def make_optimizer(groups: Iterable[list[nn.Parameter]], training: Training) -> optim.Optimizer:
    """The optimizer over groups of parameters; what is imported here is there, as the plan has seen."""
    parameters = [{"params": group} for group in groups]
    rate = float(training.learning_rate)
    made: optim.Optimizer
    match training.optimizer:
        case Optimizer.ADAMW:
            made = optim.AdamW(parameters, lr=rate, weight_decay=WEIGHT_DECAY, fused=True)
        case Optimizer.ADAMW_8BIT:
            from bitsandbytes.optim import AdamW8bit

            made = AdamW8bit(parameters, lr=rate, weight_decay=WEIGHT_DECAY)
        case Optimizer.PRODIGY:
            from prodigyopt import Prodigy

            # As its authors advise for diffusion models.
            made = Prodigy(
                parameters,
                lr=rate,
                weight_decay=WEIGHT_DECAY,
                use_bias_correction=True,
                safeguard_warmup=True,
            )
    return made
