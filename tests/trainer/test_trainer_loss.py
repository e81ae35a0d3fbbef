"""The loss is the paper's, and what noise is added and asked for agrees with diffusers' schedulers."""

import pytest
import torch
from diffusers import DDPMScheduler

from darkroom_trainer.training.loss import add_noise, dreambooth_loss, prediction_target


@pytest.fixture
def scheduler():
    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


@pytest.fixture
def tensors():
    draw = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(4, 4, 8, 8, generator=draw) for _ in range(2))
    return latents, noise, torch.tensor([0, 10, 500, 999])


def test_noise_is_added_as_diffusers_does(scheduler, tensors):
    latents, noise, timesteps = tensors
    ours = add_noise(latents, noise, timesteps, scheduler.alphas_cumprod)
    torch.testing.assert_close(ours, scheduler.add_noise(latents, noise, timesteps))


def test_the_targets_are_noise_and_diffusers_velocity(scheduler, tensors):
    latents, noise, timesteps = tensors
    signal = scheduler.alphas_cumprod
    assert prediction_target("epsilon", latents, noise, timesteps, signal) is noise
    velocity = prediction_target("v_prediction", latents, noise, timesteps, signal)
    torch.testing.assert_close(velocity, scheduler.get_velocity(latents, noise, timesteps))


def test_the_loss_is_instance_plus_lambda_times_prior(tensors):
    prediction, target, _ = tensors
    terms = dreambooth_loss(prediction, target, 2, prior_weight=0.5)
    errors = (prediction - target).square()
    torch.testing.assert_close(terms.instance, errors[:2].mean())
    torch.testing.assert_close(terms.prior, errors[2:].mean())
    torch.testing.assert_close(terms.total, errors[:2].mean() + 0.5 * errors[2:].mean())


def test_without_class_images_the_loss_is_the_instance_loss(tensors):
    prediction, target, _ = tensors
    terms = dreambooth_loss(prediction, target, 4, prior_weight=1.0)
    assert terms.total is terms.instance
    assert float(terms.prior) == 0


def test_the_loss_is_computed_in_32_bits(tensors):
    prediction, target, _ = tensors
    assert dreambooth_loss(prediction.half(), target, 2, 1.0).total.dtype == torch.float32
