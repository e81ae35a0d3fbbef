"""Random numbers are functions of (seed, stream, step, sample), and nothing else."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from darkroom_trainer.training.batches import samples_of
from darkroom_trainer.training.streams import Stream, generator, integers, normal, shuffled_index

counters = st.tuples(
    st.integers(0, 2**32 - 1), st.sampled_from(Stream), st.integers(0, 10**6), st.integers(0, 10**4)
)


@given(counters, counters)
def test_two_counters_give_the_same_numbers_only_if_they_are_equal(first, second):
    one, other = (generator(*counter).integers(0, 2**63, 4) for counter in (first, second))
    assert np.array_equal(one, other) == (first == second)


@given(st.integers(0, 1000), st.lists(st.integers(0, 500), min_size=1, max_size=6, unique=True))
def test_a_sample_gets_the_same_noise_whatever_else_is_drawn_with_it(step, samples):
    together = normal(7, Stream.NOISE, step, samples, (2, 3))
    alone = torch.cat([normal(7, Stream.NOISE, step, [sample], (2, 3)) for sample in samples])
    assert torch.equal(together, alone)


def test_noise_is_standard_normal_and_timesteps_are_uniform():
    noise = normal(0, Stream.NOISE, 0, range(2000), (16,))
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    counts = torch.bincount(integers(0, Stream.TIMESTEP, 0, range(4000), high=8), minlength=8)
    assert int(counts.min()) > 400


@given(st.integers(1, 12), st.integers(0, 5))
def test_every_epoch_shows_every_image_once(length, epoch):
    shown = [
        shuffled_index(3, Stream.INSTANCE_ORDER, epoch * length + offset, length)
        for offset in range(length)
    ]
    assert sorted(shown) == list(range(length))


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_ranks_share_the_samples_of_a_step_without_gap_or_overlap(world_size, micro, accumulation):
    samples = [
        sample
        for rank in range(world_size)
        for batch in samples_of(rank, world_size, micro, accumulation)
        for sample in batch
    ]
    assert sorted(samples) == list(range(world_size * micro * accumulation))
