"""Randomness without state: each value is a function of (seed, stream, step, sample).

Philox is counter-based: the key (seed, stream) picks the function, the counter (step, sample) its
argument. So nothing random is stored in a checkpoint, ranks never share a value, and a sample gets
the same numbers whatever the world size. Drawn on the CPU, so that a GPU changes nothing either.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """What a random value is for; two streams are independent. Never renumber: weights depend on it."""

    NOISE = 1
    TIMESTEP = 2
    POSTERIOR = 3
    FLIP = 4
    INSTANCE_ORDER = 5
    CLASS_ORDER = 6
    CLASS_IMAGE = 7
    VALIDATION = 8
    NOISE_OFFSET = 9
    ADAPTER = 10
    BUCKET_ORDER = 11


def generator(seed: int, stream: Stream, step: int, sample: int) -> np.random.Generator:
    """The generator at one counter; its draws never overlap those at another one."""
    counter = np.array([0, 0, sample, step], dtype=np.uint64)
    key = np.array([seed, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def normal(
    seed: int, stream: Stream, step: int, samples: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """Standard normal values, float32, of shape (len(samples), *shape)."""
    draws = [
        generator(seed, stream, step, sample).standard_normal(tuple(shape), dtype=np.float32)
        for sample in samples
    ]
    return torch.from_numpy(np.stack(draws))


def integers(seed: int, stream: Stream, step: int, samples: Sequence[int], high: int) -> Tensor:
    """Uniform integers in [0, high), int64, of shape (len(samples),)."""
    draws = [int(generator(seed, stream, step, sample).integers(high)) for sample in samples]
    return torch.tensor(draws, dtype=torch.int64)


def shuffled(seed: int, stream: Stream, epoch: int, length: int, lane: int = 0) -> list[int]:
    """The order of all items in an epoch; lanes are independent."""
    order: list[int] = generator(seed, stream, epoch, lane).permutation(length).tolist()
    return order


def shuffled_index(seed: int, stream: Stream, position: int, length: int, lane: int = 0) -> int:
    """The item at a position of an endless sequence of epochs, each a new order of all items."""
    epoch, offset = divmod(position, length)
    return shuffled(seed, stream, epoch, length, lane)[offset]
