"""Passes of one size: what a model says of a row then does not depend on how many rows there are beside it."""

from typing import Final

import torch
from torch import Tensor

from darkroom_sampling.model import DiffusionModel
from darkroom_sampling.protocols import Conditions
from darkroom_sampling.trajectory import Predict

GPU_ROWS: Final = 8
"""Rows of a pass on a GPU."""

SMALL_ROWS: Final = 4
"""Rows of a pass of a small network on a CPU, which spends its time on starting operations: with the
miniature on two cores, two rows take 29 ms, four 32, eight 51."""

LARGE_ROWS: Final = 2
"""Rows of a pass of a large network on a CPU, where each more costs as much: those of one guided picture."""

SMALL_PARAMETERS: Final = 50_000_000
"""A network with fewer is small."""


def rows_of_a_pass(model: DiffusionModel) -> int:
    """How many rows each pass of a model has, always the same on one kind of device: see `padded`."""
    if model.device.type == "cuda":
        return GPU_ROWS
    parameters = sum(weight.numel() for weight in model.denoiser.network.parameters())
    return SMALL_ROWS if parameters < SMALL_PARAMETERS else LARGE_ROWS


def padded(predict: Predict, rows: int) -> Predict:
    """A denoiser that is always asked about so many rows: the last one again, where there are fewer.

    Matrix products of other sizes are added up in another order, so that the same row differs in its last
    bits in a larger batch. In batches of one size it has the same bits wherever it stands.
    """

    def predict_padded(latents: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        count = len(latents)
        which = torch.arange(rows, device=latents.device).clamp(max=count - 1)
        filled = {name: values[which] for name, values in conditions.items()}
        return predict(latents[which], timesteps[which], filled)[:count]

    return predict_padded
