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
    """Of the denoiser's network, and of all that has no rate of its own."""

    text_encoder: float
    new_tokens: float


def own_rates(training: Training) -> frozenset[str]:
    """Names of the rates that are not always that of the network."""
    own = set()
    if (training.text_encoder_learning_rate, training.text_encoder_stop_step) != (None, None):
        own.add("text_encoder")
    tokens = training.added_tokens
    if tokens is not None and tokens.learning_rate is not None:
        own.add("new_tokens")
    return frozenset(own)


def learning_rates(training: Training, step: int) -> LearningRates:
    """The rates of the step that follows `step` optimizer steps."""
    factor = _factor(training, step)
    unet = float(training.learning_rate)
    text_encoder = float(training.text_encoder_learning_rate or training.learning_rate)
    stop = training.text_encoder_stop_step
    if stop is not None and step >= stop:  # also AdamW's weight decay is a multiple of the rate
        text_encoder = 0.0
    tokens = training.added_tokens
    new_tokens = float((tokens and tokens.learning_rate) or training.learning_rate)
    return LearningRates(unet * factor, text_encoder * factor, new_tokens * factor)


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
