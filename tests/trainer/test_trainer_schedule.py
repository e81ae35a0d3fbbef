"""Learning rates are diffusers' curves over optimizer steps; the text encoder has its own, to its stop."""

import pytest
import torch
from diffusers.optimization import get_scheduler

from darkroom_api.training import LearningRateSchedule, NewTokens, Training
from darkroom_trainer.training.schedule import LearningRates, learning_rates, own_rates

PUBLIC = {
    LearningRateSchedule.CONSTANT: "constant_with_warmup",
    LearningRateSchedule.LINEAR: "linear",
    LearningRateSchedule.COSINE: "cosine",
}


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("schedule", LearningRateSchedule)
def test_the_curves_are_those_of_the_public_scripts(schedule, warmup):
    training = Training.of(
        learning_rate="0.1", learning_rate_schedule=schedule, warmup_steps=warmup, max_steps=20
    )
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    public = get_scheduler(
        PUBLIC[schedule], optimizer, num_warmup_steps=warmup, num_training_steps=20
    )
    for step in range(20):
        assert learning_rates(training, step).unet == pytest.approx(public.get_last_lr()[0])
        optimizer.step()
        public.step()


def test_the_text_encoder_follows_the_curve_at_its_own_height_and_then_stays_as_it_is():
    training = Training.of(
        learning_rate="0.1", text_encoder_learning_rate="0.01", warmup_steps=2, max_steps=4
    )
    assert learning_rates(training, 1) == LearningRates(0.05, 0.005, 0.05)
    stopped = training.model_copy(update={"text_encoder_stop_step": 3})
    assert learning_rates(stopped, 2) == LearningRates(0.1, 0.01, 0.1)
    assert learning_rates(stopped, 3) == LearningRates(0.1, 0.0, 0.1)


def test_new_tokens_follow_the_curve_at_their_own_height():
    tokens = NewTokens.of(learning_rate="0.02")
    training = Training.of(learning_rate="0.1", warmup_steps=2, max_steps=4, new_tokens=tokens)
    assert learning_rates(training, 1) == LearningRates(0.05, 0.05, 0.01)
    assert own_rates(training) == {"new_tokens"}
