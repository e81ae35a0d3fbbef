"""What is trained: with gradient checkpointing the UNet's activations are made twice, not kept."""

import pytest
import torch
from torch import nn

from darkroom_trainer.training.models import load_base, trainable_denoiser


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_made_again_only_where_the_job_asks_for_it(tiny_base, checkpointing):
    base = load_base(tiny_base, torch.device("cpu"))
    denoiser = trainable_denoiser(
        base, train_text_encoder=False, gradient_checkpointing=checkpointing
    )
    convolutions = []
    for module in denoiser.network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *call: convolutions.append(call))
    latents, states = torch.zeros(1, 4, 8, 8), base.states(["a photo"])
    loss = denoiser(latents, torch.tensor([3]), states, torch.tensor([0])).sum()
    forward = len(convolutions)
    loss.backward()
    assert (len(convolutions) > forward) is checkpointing
