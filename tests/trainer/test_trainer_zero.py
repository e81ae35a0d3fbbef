"""DeepSpeed is configured from the spec, and what it trains are 32-bit weights."""

import pytest
import torch

from darkroom_api.job import Precision
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.progress.snapshot import Losses
from darkroom_trainer.training.deepspeed_config import effective_stage, engine_config
from darkroom_trainer.training.loop import StepStats, _refuse_nan
from darkroom_trainer.training.models import load_base, trainable_denoiser


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_stage_and_the_batch_are_the_spec_s(make_job, tmp_path, stage):
    job = make_job(
        tmp_path,
        training={"gradientAccumulationSteps": 3},
        scale={"zeroStage": stage, "workers": 2},
    )
    config = engine_config(job.spec)
    assert config["zero_optimization"]["stage"] == stage
    assert config["train_batch_size"] == 12
    assert not config["bf16"]["enabled"]
    assert not config["fp16"]["enabled"]


def test_sixteen_bits_are_never_without_masters_that_can_be_had(make_job, tmp_path):
    scale = {"precision": "BF16", "zeroStage": 0}
    assert effective_stage(make_job(tmp_path, scale=scale).spec.scale) == 1


def test_fp16_finds_its_loss_scale_within_a_short_job(make_job, tmp_path):
    scale = {"precision": "FP16", "gpusPerWorker": 1}
    fp16 = engine_config(make_job(tmp_path, scale=scale).spec)["fp16"]
    assert fp16["enabled"]
    assert (fp16["loss_scale"], fp16["initial_scale_power"], fp16["loss_scale_window"]) == (
        0,
        12,
        100,
    )


def test_the_optimizer_s_state_goes_to_the_cpu_when_asked(make_job, tmp_path):
    config = engine_config(make_job(tmp_path, scale={"offload": "CPU"}).spec)
    assert config["zero_optimization"]["offload_optimizer"] == {"device": "cpu"}


def test_a_base_with_dropout_trains_without_it(tiny_base):
    base = load_base(tiny_base, torch.device("cpu"))
    base.denoiser.network.mid_block.resnets[0].dropout = torch.nn.Dropout(0.5)
    denoiser = trainable_denoiser(base, train_text_encoder=True)
    batch = (
        torch.ones(2, 4, 8, 8),
        torch.tensor([1, 2]),
        base.tokens(["a dog"]),
        torch.tensor([0, 0]),
    )
    assert torch.equal(denoiser(*batch), denoiser(*batch))
    assert all(parameter.requires_grad for parameter in denoiser.parameters())


NAN = float("nan")


@pytest.mark.parametrize(("loss", "grad_norm"), [(NAN, 1.0), (1.0, float("inf")), (1.0, NAN)])
def test_a_step_that_diverged_is_refused_before_it_is_saved(loss, grad_norm):
    stats = StepStats(Losses(total=loss, instance=loss), grad_norm, 1e-3, stop=False)
    with pytest.raises(TrainerError, match=r"spec\.training\.learningRate: the .* of step 7 is"):
        _refuse_nan(7, stats, Precision.FP32)


def test_a_step_that_fp16_skips_is_not_an_error():
    stats = StepStats(Losses(total=1.0, instance=1.0), float("inf"), 1e-3, stop=False)
    _refuse_nan(7, stats, Precision.FP16)
