"""The loss is the paper's, and what noise is added and asked for agrees with diffusers' schedulers."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_snr

from darkroom_trainer.families.flow_matching import FlowMatching
from darkroom_trainer.families.noise_prediction import NoisePrediction
from darkroom_trainer.training.loss import dreambooth_loss, squared_errors


@pytest.fixture
def scheduler():
    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


@pytest.fixture
def tensors():
    draw = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(4, 4, 8, 8, generator=draw) for _ in range(2))
    return latents, noise, torch.tensor([0, 10, 500, 999])


def objective(scheduler, kind="epsilon"):
    return NoisePrediction(scheduler.alphas_cumprod, kind, dict(scheduler.config))


def test_noise_is_added_as_diffusers_does(scheduler, tensors):
    latents, noise, timesteps = tensors
    ours = objective(scheduler).add_noise(latents, noise, timesteps)
    torch.testing.assert_close(ours, scheduler.add_noise(latents, noise, timesteps))


def test_the_targets_are_noise_and_diffusers_velocity(scheduler, tensors):
    latents, noise, timesteps = tensors
    assert objective(scheduler).target(latents, noise, timesteps) is noise
    velocity = objective(scheduler, "v_prediction").target(latents, noise, timesteps)
    torch.testing.assert_close(velocity, scheduler.get_velocity(latents, noise, timesteps))


def test_the_loss_is_instance_plus_lambda_times_prior(tensors):
    prediction, target, _ = tensors
    terms = dreambooth_loss(squared_errors(prediction, target), 2, prior_weight=0.5)
    errors = (prediction - target).square()
    torch.testing.assert_close(terms.instance, errors[:2].mean())
    torch.testing.assert_close(terms.prior, errors[2:].mean())
    torch.testing.assert_close(terms.total, errors[:2].mean() + 0.5 * errors[2:].mean())


def test_without_class_images_the_loss_is_the_instance_loss(tensors):
    prediction, target, _ = tensors
    terms = dreambooth_loss(squared_errors(prediction, target), 4, prior_weight=1.0)
    assert terms.total is terms.instance
    assert float(terms.prior) == 0


def test_the_loss_is_computed_in_32_bits(tensors):
    prediction, target, _ = tensors
    assert squared_errors(prediction.half(), target).dtype == torch.float32


def test_min_snr_weights_are_the_public_scripts(scheduler, tensors):
    _, _, timesteps = tensors
    snr = compute_snr(scheduler, timesteps)
    least = torch.minimum(snr, torch.full_like(snr, 5.0))
    weights = {
        kind: objective(scheduler, kind).weights(timesteps, 5.0)
        for kind in ("epsilon", "v_prediction")
    }
    torch.testing.assert_close(weights["epsilon"], least / snr)
    torch.testing.assert_close(weights["v_prediction"], least / (snr + 1))


@pytest.mark.parametrize(("kind", "weight"), [("epsilon", 1.0), ("v_prediction", 0.0)])
def test_no_signal_at_all_has_a_finite_weight(kind, weight):
    zero_terminal = DDPMScheduler(rescale_betas_zero_snr=True)
    zero_terminal.alphas_cumprod[-1] = 0
    found = objective(zero_terminal, kind).weights(torch.tensor([999, 0]), 5.0)
    assert found[0] == weight
    assert found.isfinite().all()


def test_weights_are_those_of_instance_and_class_images_alike(tensors):
    """diffusers' script has weights for the whole batch, and multiplies the instance half with them."""
    prediction, target, _ = tensors
    errors = (prediction - target).square().mean(dim=(1, 2, 3))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    terms = dreambooth_loss(squared_errors(prediction, target), 2, 1.0, weights)
    torch.testing.assert_close(terms.instance, (weights * errors)[:2].mean())
    torch.testing.assert_close(terms.prior, (weights * errors)[2:].mean())


@pytest.fixture
def flow():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return FlowMatching(3.0, 1000, dict(scheduler.config)), scheduler


def test_a_flow_is_noised_as_diffusers_does_and_its_step_by_the_target_ends_at_the_picture(
    flow, tensors
):
    objective, scheduler = flow
    latents, noise, _ = tensors
    timesteps = scheduler.timesteps[[0, 10, 500, 999]]
    noisy = objective.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(noisy, scheduler.scale_noise(latents, timesteps, noise))
    velocity = objective.target(latents, noise, timesteps)
    sigma = (timesteps / 1000).view(-1, 1, 1, 1)
    torch.testing.assert_close(noisy - sigma * velocity, latents)


def test_the_noise_levels_of_a_flow_are_those_that_its_scheduler_samples(flow):
    objective, scheduler = flow
    drawn = objective.draw_timesteps([np.random.default_rng(seed) for seed in range(20_000)])
    assert 0 < drawn.min() < drawn.max() <= 1000
    shares = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(
        drawn.quantile(shares), scheduler.timesteps.quantile(shares), rtol=0.02, atol=0.0
    )


def test_min_snr_weighs_a_flow_by_the_errors_of_its_pictures(flow):
    """Equation 5 of arXiv 2303.09556 weighs those with min(SNR, gamma); they are sigma times the velocity's."""
    objective, _ = flow
    found = objective.weights(torch.tensor([1000.0, 500.0, 10.0, 1e-3]), 5.0)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.25, 5e-4, 5e-12]))
