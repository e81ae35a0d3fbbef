"""The moving average is diffusers' over the steps that changed something, and takes the weights' place for a while."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.training_utils import EMAModel

from darkroom_trainer.training.weight_average import WeightAverage


@pytest.fixture
def weights():
    return torch.nn.Parameter(torch.zeros(3))


@pytest.fixture
def engine(weights):
    """What the average asks of DeepSpeed's engine without ZeRO; its steps change something."""
    return SimpleNamespace(
        optimizer=torch.optim.SGD([weights]),
        was_step_applied=lambda: True,
        zero_optimization_stage=lambda: 0,
    )


def test_a_step_that_was_skipped_counts_for_nothing(engine, weights):
    average, public = WeightAverage(engine, 0.9999), EMAModel([weights], decay=0.9999)
    for step, skipped in enumerate((False, True, False, True, False)):
        engine.was_step_applied = lambda skipped=skipped: not skipped
        if not skipped:
            weights.data += step + 1
            public.step([weights])
        average.update()
    with average.in_place():
        found = weights.detach().clone()
    assert torch.equal(found, public.shadow_params[0])


def test_the_weights_are_back_bit_by_bit_after_the_average_had_their_place(engine, weights):
    average = WeightAverage(engine, 0.9999)
    for value in torch.randn(4, 3, generator=torch.Generator().manual_seed(0)):
        weights.data.copy_(value)
        average.update()
    before = weights.detach().clone()
    with average.in_place():
        assert not torch.equal(weights, before)
    assert torch.equal(weights, before)
