"""Optimizers are made as a job says, and keep as much as the plan counts; what can't work is refused before."""

import dataclasses

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from prodigyopt import Prodigy

from darkroom_api.status import Reason
from darkroom_api.training import Optimizer, Training
from darkroom_trainer.driver.plan import make_plan, predict_peak_memory
from darkroom_trainer.driver.sizes import MOMENT_BYTES, checkpoint_bytes, trained_parameters
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.inputs.machine import Machine, read_machine
from darkroom_trainer.inputs.photos import load_photos
from darkroom_trainer.training.optimizers import WEIGHT_DECAY, make_optimizer

HERE = Machine(cpus=2, memory_bytes=16 << 30, gpus=0, has_bitsandbytes=True)
CLASSES = {
    Optimizer.ADAMW: torch.optim.AdamW,
    Optimizer.ADAMW_8BIT: AdamW8bit,
    Optimizer.PRODIGY: Prodigy,
}


@pytest.fixture(scope="module")
def tiny(tiny_base):
    return inspect_base("file:tiny", tiny_base)


@pytest.fixture
def plan_of(tiny, tiny_photos):
    photos = load_photos(tiny_photos, 32)

    def build(job, machine=HERE):
        return make_plan(
            job, tiny, photos, class_images_ready=0, input_warnings=(), machine=machine
        )

    return build


def descend(optimizer, weights, steps):
    """Steps down a bowl whose lowest point is at 3."""
    for _ in range(steps):
        optimizer.zero_grad()
        ((weights - 3) ** 2).sum().backward()
        optimizer.step()
    return float((weights.detach() - 3).abs().max())


@pytest.mark.parametrize("name", Optimizer)
def test_an_optimizer_is_the_job_s_and_keeps_as_many_bytes_as_the_plan_counts(name):
    weights = torch.nn.Parameter(torch.ones(1 << 16))
    training = Training.of(optimizer=name, learning_rate="0.1")
    optimizer = make_optimizer([[weights]], training)
    assert type(optimizer) is CLASSES[name]
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.1, WEIGHT_DECAY)
    descend(optimizer, weights, 1)
    kept = [value for value in optimizer.state[weights].values() if isinstance(value, torch.Tensor)]
    kept_bytes = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    assert kept_bytes / weights.numel() == pytest.approx(MOMENT_BYTES[name], rel=0.05)


def test_prodigy_finds_a_rate_by_itself():
    distances = {}
    for name, rate in ((Optimizer.PRODIGY, "1.0"), (Optimizer.ADAMW, "1e-6")):
        weights = torch.nn.Parameter(torch.zeros(10))
        optimizer = make_optimizer([[weights]], Training.of(optimizer=name, learning_rate=rate))
        distances[name] = descend(optimizer, weights, 200)
    assert distances[Optimizer.ADAMW] > 2.9, "where Prodigy begins, a rate of 1e-6, leads nowhere"
    assert distances[Optimizer.PRODIGY] < 0.3


def test_eight_bits_without_bitsandbytes_are_refused_with_the_fix(make_job, tmp_path, plan_of):
    job = make_job(tmp_path, training={"optimizer": "AdamW8bit"})
    with pytest.raises(TrainerError) as caught:
        plan_of(job, dataclasses.replace(HERE, has_bitsandbytes=False))
    assert caught.value.reason is Reason.NOT_SUPPORTED
    assert str(caught.value) == (
        "spec.training.optimizer: AdamW8bit needs bitsandbytes, which is not installed here;"
        " install it beside darkroom (pip install bitsandbytes), or set it to AdamW"
    )
    assert plan_of(job)
    assert read_machine().has_bitsandbytes, "these tests have it"


def test_a_rate_that_prodigy_would_shrink_is_warned_about(make_job, tmp_path, plan_of):
    prodigy = {"optimizer": "Prodigy"}
    unchanged = make_job(tmp_path, training=prodigy | {"learningRate": "5e-6"})
    (warning,) = [text for text in plan_of(unchanged).warnings if "Prodigy" in text]
    assert warning == (
        "spec.training.learningRate is 5e-6: Prodigy finds a rate and multiplies it by this one;"
        " 1.0 is usual"
    )
    usual = make_job(tmp_path, training=prodigy | {"learningRate": "1.0"})
    assert not [text for text in plan_of(usual).warnings if "Prodigy" in text]


def test_memory_and_checkpoints_are_those_of_the_optimizer(make_job, tmp_path, tiny):
    jobs = {name: make_job(tmp_path, training={"optimizer": name.value}) for name in Optimizer}
    trained = trained_parameters(jobs[Optimizer.ADAMW], tiny)
    for size in (checkpoint_bytes, predict_peak_memory):
        plain = size(jobs[Optimizer.ADAMW], tiny)
        assert size(jobs[Optimizer.PRODIGY], tiny) == pytest.approx(plain + 8 * trained, abs=1)
        assert size(jobs[Optimizer.ADAMW_8BIT], tiny) == pytest.approx(plain - 6 * trained, abs=1)
