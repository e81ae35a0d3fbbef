"""Of any scheduler a base's noise levels are taken, or it is refused before a step."""

import inspect
import json

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler

from darkroom_trainer.driver.base_check import class_warnings
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.families.noise_prediction import read_scheduler
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.training.models import load_base

pytestmark = pytest.mark.usefixtures("classes_built_here")

CPU = torch.device("cpu")


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(folder):
    with pytest.raises(TrainerError) as caught:
        class_warnings(inspect_base("file:base", folder))
    return str(caught.value)


def scheduler_classes():
    classes = [getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")]
    return [
        cls
        for cls in classes
        if issubclass(cls, diffusers.SchedulerMixin) and not wants_arguments(cls)
    ]


def wants_arguments(cls):
    """Those for tokens and proteins do: they have no betas."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return any(parameter.default is inspect.Parameter.empty for parameter in parameters)


@pytest.mark.parametrize("cls", scheduler_classes(), ids=lambda cls: cls.__name__)
def test_of_any_scheduler_the_noise_levels_are_taken_or_it_is_refused(cls, base):
    own = cls()
    own.save_pretrained(base / "scheduler")
    edit(base / "model_index.json", scheduler=["diffusers", cls.__name__])
    predicts = own.config.get("prediction_type", "epsilon")
    shifted = "snr_shift_scale" in own.config
    if not hasattr(own, "alphas_cumprod") or shifted or predicts == "sample":
        assert "its scheduler" in refusal(base)
        return
    assert class_warnings(inspect_base("file:base", base)) == []
    taken = read_scheduler(base / "scheduler", cls.__name__)
    assert torch.equal(taken.alphas_cumprod, own.alphas_cumprod)


def test_what_an_old_configuration_leaves_out_is_the_default_of_its_own_class(base):
    own = diffusers.LCMScheduler()
    old = {"_class_name": "LCMScheduler", "prediction_type": "epsilon", "beta_schedule": "linear"}
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(old))
    taken = read_scheduler(base / "scheduler", "LCMScheduler")
    assert taken.config.beta_start == own.config.beta_start == 0.00085


def test_betas_of_another_number_than_timesteps_are_refused(base):
    edit(base / "scheduler" / "scheduler_config.json", trained_betas=[0.001] * 10)
    assert "it has another number of betas than num_train_timesteps says" in refusal(base)


def test_with_a_zero_terminal_snr_the_targets_and_noisy_latents_are_finite(base):
    DDIMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, beta_schedule="scaled_linear"
    ).save_pretrained(base / "scheduler")
    objective = load_base(base, CPU).objective
    assert objective.alphas_cumprod[-1] == 0
    steps = torch.arange(1000)
    latents, noise = torch.randn(2, 1000, 4, 2, 2)
    noisy = objective.add_noise(latents, noise, steps)
    target = objective.target(latents, noise, steps)
    assert torch.isfinite(noisy).all()
    assert torch.equal(target[-1], -latents[-1])
    assert torch.isfinite(target).all()


def test_a_zero_terminal_snr_with_epsilon_is_refused(base):
    DDIMScheduler(rescale_betas_zero_snr=True).save_pretrained(base / "scheduler")
    assert "has a zero terminal SNR (rescale_betas_zero_snr) and predicts epsilon" in refusal(base)
