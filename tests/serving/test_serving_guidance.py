"""What is drawn: the same pictures as diffusers' own pipeline, and seeds that hold."""

import numpy as np
import pytest
import torch

from darkroom_sampling.samplers import SPECS, Sampler, build_scheduler
from darkroom_serving.drawing.studio import resolve
from darkroom_serving.engine.batching import BatchingEngine
from darkroom_serving.engine.requests import DrawRequest, StoppedError
from darkroom_serving.errors import ApiError
from darkroom_serving.models.loading import load_model
from darkroom_serving.web.wire import MAX_SEED, ImagesRequest
from darkroom_testing.plain_pipelines import plain_pipeline
from darkroom_testing.tiny_families import write_stable_diffusion_xl, write_z_image


@pytest.fixture(scope="module")
def loaded(serving_base):
    torch.set_num_threads(1)
    return load_model(serving_base, torch.device("cpu")).model


@pytest.fixture(scope="module")
def pipeline(serving_base):
    return plain_pipeline(serving_base)


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    """A tiny Stable Diffusion XL, as we load it and as diffusers does."""
    folder = tmp_path_factory.mktemp("xl") / "xl"
    write_stable_diffusion_xl(folder, seed=0)
    return load_model(folder, torch.device("cpu")).model, plain_pipeline(folder)


def request_of(**changes):
    fields = {
        "prompt": "a dog",
        "negative_prompt": "",
        "width": 32,
        "height": 32,
        "steps": 4,
        "guidance_scale": 3.0,
        "sampler": Sampler.DDIM,
        "seed": 7,
    }
    return DrawRequest(**(fields | changes))


def draw(model, *requests):
    return BatchingEngine().draw(model, requests, lambda: False)


@pytest.mark.parametrize("sampler", list(Sampler))
def test_the_pictures_are_those_of_diffusers_pipeline(loaded, pipeline, sampler):
    request = request_of(sampler=sampler, negative_prompt="a cat")
    pipeline.scheduler = build_scheduler(SPECS[sampler], loaded.scheduler_config)
    expected = pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        height=32,
        width=32,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="np",
    ).images[0]
    (found,) = draw(loaded, request)
    assert found.shape == (32, 32, 3)
    assert np.abs(found.astype(int) - (expected * 255).round().astype(int)).max() <= 1


def test_with_eta_ddim_draws_what_the_pipeline_draws(loaded, pipeline):
    pipeline.scheduler = build_scheduler(SPECS[Sampler.DDIM], loaded.scheduler_config)
    expected = pipeline(
        "a dog",
        height=32,
        width=32,
        num_inference_steps=4,
        guidance_scale=3.0,
        eta=0.7,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    ).images[0]
    (request,) = resolve(
        ImagesRequest(
            prompt="a dog", size="32x32", num_inference_steps=4, guidance_scale=3, seed=7, eta=0.7
        ),
        loaded,
    )
    found, without = draw(loaded, request, request_of())
    assert np.abs(found.astype(int) - (expected * 255).round().astype(int)).max() <= 1
    assert not np.array_equal(found, without)


def test_eta_with_a_sampler_that_takes_none_is_refused(loaded):
    with pytest.raises(ApiError, match="eta: euler takes none; leave it out or use ddim"):
        resolve(ImagesRequest(prompt="a dog", sampler=Sampler.EULER, eta=0.5), loaded)


@pytest.mark.parametrize("negative", ["", "a cat"])
def test_the_pictures_of_stable_diffusion_xl_are_those_of_its_pipeline(xl, negative):
    model, pipeline = xl
    request = request_of(sampler=Sampler.EULER, negative_prompt=negative, width=64)
    expected = pipeline(
        request.prompt,
        negative_prompt=negative or None,
        height=32,
        width=64,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="np",
    ).images[0]
    (found,) = draw(model, request)
    assert np.abs(found.astype(int) - (expected * 255).round().astype(int)).max() <= 1


@pytest.fixture(scope="module")
def z_image(tmp_path_factory):
    """A tiny Z-Image, as we load it and as diffusers does."""
    folder = tmp_path_factory.mktemp("z-image") / "z-image"
    write_z_image(folder, seed=0)
    return load_model(folder, torch.device("cpu")).model, plain_pipeline(folder)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_pictures_of_z_image_are_those_of_its_pipeline_which_counts_guidance_from_0(
    z_image, scale
):
    model, pipeline = z_image
    body = ImagesRequest(prompt="a dog", size="64x32", guidance_scale=scale, seed=7)
    (request,) = resolve(body.model_copy(update={"num_inference_steps": 3}), model)
    assert request.sampler is Sampler.EULER
    expected = pipeline(
        request.prompt,
        height=32,
        width=64,
        num_inference_steps=3,
        guidance_scale=scale - 1,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    ).images[0]
    (found,) = draw(model, request)
    assert np.abs(found.astype(int) - (expected * 255).round().astype(int)).max() <= 1


def test_a_model_of_flows_refuses_a_sampler_that_was_chosen_for_noise(z_image):
    model, _ = z_image
    with pytest.raises(ApiError, match="sampler: ddim does not suit the model; use euler"):
        resolve(ImagesRequest(prompt="a dog", sampler=Sampler.DDIM), model)
    with pytest.raises(ApiError, match=r"eta: euler takes none; leave it out$"):
        resolve(ImagesRequest(prompt="a dog", eta=0.5), model)
    assert model.side_step == 8


def test_latents_are_decoded_in_the_precision_of_the_vae_that_may_be_higher(xl):
    model, _ = xl
    assert model.codec.vae.config.force_upcast
    assert model.codec.decode(torch.zeros(1, 4, 8, 8, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("sampler", list(Sampler))
def test_every_sampler_can_do_few_steps(loaded, sampler, steps):
    (picture,) = draw(loaded, request_of(sampler=sampler, steps=steps))
    assert picture.std() > 0


def test_samplers_keep_what_the_model_says_of_its_schedule(loaded):
    for sampler in SPECS:
        config = build_scheduler(SPECS[sampler], loaded.scheduler_config).config
        assert config.beta_schedule == "scaled_linear"
        assert not config.get("clip_sample", False)


def test_a_picture_does_not_depend_on_the_others_of_its_request(loaded):
    others = [request_of(prompt="a cat", seed=1), request_of(sampler=Sampler.EULER_A, steps=2)]
    (alone,) = draw(loaded, request_of())
    *_, last = draw(loaded, *others, request_of())
    assert np.array_equal(alone, last)


@pytest.mark.parametrize("changes", [{"seed": 8}, {"prompt": "a cat"}, {"negative_prompt": "x"}])
def test_seed_and_prompts_make_the_picture(loaded, changes):
    first, second = draw(loaded, request_of(), request_of(**changes))
    assert not np.array_equal(first, second)


def test_sizes_other_than_the_models_own_can_be_drawn(loaded):
    wide, smallest = draw(loaded, request_of(width=64), request_of(width=8, height=8))
    assert (wide.shape, smallest.shape) == ((32, 64, 3), (8, 8, 3))


def test_drawing_stops_when_nobody_waits(loaded):
    with pytest.raises(StoppedError):
        BatchingEngine().draw(loaded, [request_of()], lambda: True)


def test_what_a_request_leaves_open_is_chosen(loaded):
    jobs = resolve(ImagesRequest(prompt="a dog", n=2), loaded)
    assert [(job.width, job.height) for job in jobs] == [(32, 32)] * 2
    assert jobs[1].seed == jobs[0].seed + 1


def test_the_seed_after_the_largest_is_0(loaded):
    jobs = resolve(ImagesRequest(prompt="a dog", n=2, seed=MAX_SEED), loaded)
    assert [job.seed for job in jobs] == [MAX_SEED, 0]
