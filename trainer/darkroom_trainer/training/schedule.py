"""The learning rates of an optimizer step: a function of its number, so that a resumed run has the same.

Counted are optimizer steps, whatever the number of workers and micro batches.
"""

import math
from dataclasses import dataclass

from darkroom_api.training import LearningRateSchedule, Training


@dataclass(frozen=True)
class LearningRates:
    """What the optimizer takes in one step."""

    unet: float
    text_encoder: float


def learning_rates(training: Training, step: int) -> LearningRates:
    """The rates of the step that follows `step` optimizer steps."""
    factor = _factor(training, step)
    unet = float(training.learning_rate)
    text_encoder = float(training.text_encoder_learning_rate or training.learning_rate)
    stop = training.text_encoder_stop_step
    if stop is not None and step >= stop:  # also AdamW's weight decay is a multiple of the rate
        text_encoder = 0.0
    return LearningRates(unet * factor, text_encoder * factor)


def _factor(training: Training, step: int) -> float:
    """Share of the highest rate, as `diffusers.optimization.get_scheduler` has it: the same curves."""
    warmup, steps = training.warmup_steps, training.max_steps
    if step < warmup:
        return step / warmup
    left = (steps - step) / (steps - warmup)
    match training.learning_rate_schedule:
        case LearningRateSchedule.CONSTANT:
            return 1.0
        case LearningRateSchedule.LINEAR:
            return left
        case LearningRateSchedule.COSINE:
            return 0.5 * (1 + math.cos(math.pi * (1 - left)))
