"""A step at a time: guidance in one pass, and rows of other samplers and noise levels that don't mind each other."""

import pytest
import torch

from darkroom_sampling.catalogue import known_families
from darkroom_sampling.protocols import rows_of
from darkroom_sampling.samplers import FLOW_SPECS, Sampler
from darkroom_sampling.trajectory import Guidance, advance, begin, draw
from darkroom_serving.models.loading import load_model

STEPS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory, write_base):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_base(folder, seed=0)
    return load_model(folder, torch.device("cpu")).model


@pytest.fixture(scope="module")
def states(model):
    """Of the empty prompt, and of two others."""
    return model.states(["", "a dog", "a cat"])


def noise(model, seed, number=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((number, *model.latent_shape(32, 32)), generator=generator)


def test_one_pass_gives_what_two_passes_give(model, states):
    start = noise(model, 0, number=2)
    passes = []

    def predict(latents, timesteps, conditions):
        passes.append(len(latents))
        return model.predict(latents, timesteps, conditions)

    without, told = rows_of(states, [0, 0]), rows_of(states, [1, 1])
    trajectory = begin(model, start, told, Guidance(without, 3.0), steps=STEPS)
    latents, timesteps = trajectory.asked()
    with torch.no_grad():
        first, second = (model.predict(latents, timesteps, one) for one in (without, told))
    expected = begin(model, start, told, None, steps=STEPS)
    expected.take(first + 3.0 * (second - first))
    advance(predict, [trajectory])
    assert passes == [4]
    torch.testing.assert_close(trajectory.latents, expected.latents, atol=1e-5, rtol=1e-4)


def test_without_guidance_the_batch_is_not_doubled(model, states):
    rows = []

    def predict(latents, timesteps, conditions):
        rows.append((len(latents), len(timesteps), len(conditions["states"])))
        return torch.zeros_like(latents)

    draw(predict, begin(model, noise(model, 0), rows_of(states, [1]), None, steps=2))
    assert rows == [(1, 1, 1)] * 2


def test_pictures_of_other_samplers_levels_and_guidance_share_a_pass(model, states):
    """Each is drawn as by itself, though one joins late and one leaves early."""

    def start(sampler, row, scale, steps, seed):
        guidance = None if scale is None else Guidance(rows_of(states, [0]), scale)
        generator = torch.Generator().manual_seed(seed)
        return begin(
            model,
            noise(model, seed),
            rows_of(states, [row]),
            guidance,
            steps=steps,
            sampler=sampler,
            generator=generator,
        )

    cases = [
        (Sampler.DDIM, 1, 3.0, STEPS, 1),
        (Sampler.EULER_A, 2, 7.0, STEPS - 1, 2),
        (Sampler.DPMSOLVER, 2, None, STEPS + 1, 3),
    ]
    alone = [draw(model.predict, start(*case)) for case in cases]
    together = [start(*case) for case in cases]
    late = together.pop()
    advance(model.predict, together)
    together.append(late)
    passes = 0
    while left := [one for one in together if not one.finished]:
        advance(model.predict, left)
        passes += 1
    assert passes == STEPS + 1
    for expected, one in zip(alone, together, strict=True):
        torch.testing.assert_close(one.latents, expected, atol=1e-4, rtol=1e-4)


def test_every_family_names_a_pipeline_and_its_usual_sampler(model):
    assert {"StableDiffusionPipeline", "StableDiffusionXLPipeline", "ZImagePipeline"} == set(
        known_families()
    )
    assert next(iter(model.samplers)) is Sampler.DDIM
    assert list(FLOW_SPECS) == [Sampler.EULER]


def test_a_picture_is_drawn_by_the_usual_sampler_when_none_is_named(model, states):
    told = rows_of(states, [1])
    usual, named = (
        draw(model.predict, begin(model, noise(model, 5), told, None, steps=2, sampler=sampler))
        for sampler in (None, Sampler.DDIM)
    )
    assert torch.equal(usual, named)
