"""DeepSpeed is configured from the spec, and what it trains are 32-bit weights."""

from dataclasses import replace

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import CreateLossScaler
from deepspeed.runtime.precision_config import DeepSpeedFP16Config

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


LARGEST_FP16 = 65504.0


@pytest.fixture
def scaler(make_job, tmp_path, monkeypatch):
    """DeepSpeed's own, as it makes it from the configuration of a job in FP16."""
    monkeypatch.setattr("deepspeed.comm.get_rank", lambda: 0)  # it says of a skipped step on rank 0
    scale = {"precision": "FP16", "gpusPerWorker": 1}
    fp16 = DeepSpeedFP16Config(**engine_config(make_job(tmp_path, scale=scale).spec)["fp16"])
    assert fp16.enabled
    return CreateLossScaler(
        torch.half, fp16.loss_scale, fp16.loss_scale == 0, fp16.dynamic_loss_scale_args()
    )


def skipped_steps(scaler, largest_gradients):
    """Numbers, from 1, of the steps whose largest element of the gradient overflows at the scale."""
    skipped = []
    for step, largest in enumerate(largest_gradients, 1):
        overflows = largest * scaler.loss_scale > LARGEST_FP16
        scaler.update_scale(overflows)
        if overflows:
            skipped.append(step)
    return skipped


@pytest.mark.parametrize(("largest", "skipped"), [(1.0, []), (20.0, [1]), (60.0, [1, 2])])
def test_fp16_does_its_first_good_step_within_three(scaler, largest, skipped):
    assert skipped_steps(scaler, [largest] * 10) == skipped


def test_the_loss_scale_of_fp16_recovers_within_a_short_job(scaler):
    """One outlier in 200 steps costs that step; small gradients have their scale back before the end."""
    first = scaler.loss_scale
    assert skipped_steps(scaler, [1.0] * 50 + [100.0] + [1.0] * 149) == [51]
    assert scaler.loss_scale == first


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


def test_a_step_that_fp16_skips_is_an_error_only_when_its_loss_scale_can_fall_no_lower():
    stats = StepStats(
        Losses(total=1.0, instance=1.0), float("inf"), 1e-3, stop=False, loss_scale=2.0
    )
    _refuse_nan(7, stats, Precision.FP16)
    with pytest.raises(TrainerError, match="gradient's norm of step 8 is inf"):
        _refuse_nan(8, replace(stats, loss_scale=1.0), Precision.FP16)
