"""Image-to-image, inpainting and eta: what plain diffusers draws from the same picture, noise and prompt."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from darkroom_sampling.pixels import encode_pixels, latent_mask
from darkroom_sampling.samplers import SPECS, Sampler, build_scheduler
from darkroom_sampling.trajectory import Guidance, Original, begin, draw
from darkroom_serving.models.loading import load_model
from darkroom_testing.plain_pipelines import plain_pipeline
from darkroom_testing.tiny_families import write_z_image

STEPS = 5
SCALE = 3.0
PROMPT = "a dog"
CASES = [(sampler, 0.6) for sampler in Sampler] + [(Sampler.DDIM, 1.0), (Sampler.EULER, 1.0)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, write_base):
    """A tiny model, as we load it and as diffusers does."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_base(folder, seed=0)
    return load_model(folder, torch.device("cpu")).model, plain_pipeline(folder)


@pytest.fixture(scope="module")
def photo():
    """32 x 32 pixels."""
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def mask():
    """The lower right part is drawn anew; the edge lies within a latent's cell."""
    found = np.zeros((32, 32), dtype=bool)
    found[10:, 14:] = True
    return found


def options():
    return {
        "num_inference_steps": STEPS,
        "guidance_scale": SCALE,
        "generator": torch.Generator().manual_seed(7),
        "output_type": "np",
    }


def as_sibling(pipeline, cls, model, sampler):
    """Another pipeline of the same parts, with a scheduler of that sampler."""
    parts = {
        **pipeline.components,
        "scheduler": build_scheduler(SPECS[sampler], model.scheduler_config),
    }
    sibling = cls(**parts, requires_safety_checker=False)
    sibling.set_progress_bar_config(disable=True)
    return sibling


def drawn(model, generator, original=None, scale=SCALE, **how):
    noise = torch.randn((1, *model.latent_shape(32, 32)), generator=generator)
    if original is not None and original.mask is not None:
        # The pipeline draws once more, for UNets that are told of the masked picture.
        torch.randn(noise.shape, generator=generator)
    trajectory = begin(
        model,
        noise,
        model.states([PROMPT]),
        Guidance(model.states([""]), scale),
        steps=STEPS,
        generator=generator,
        original=original,
        **how,
    )
    with torch.no_grad():
        picture = model.codec.decode(draw(model.predict, trajectory))
    return (picture / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()


def drawn_from(model, photo, strength, mask=None, **how):
    generator = torch.Generator().manual_seed(7)
    latents = encode_pixels(model.codec, photo, generator)
    where = None if mask is None else latent_mask(model.codec, mask)
    original = Original(latents=latents, strength=strength, mask=where)
    return drawn(model, generator, original, **how)


@pytest.mark.parametrize(("sampler", "strength"), CASES)
def test_image_to_image_draws_what_its_pipeline_draws(loaded, photo, sampler, strength):
    model, pipeline = loaded
    plain = as_sibling(pipeline, diffusers.StableDiffusionImg2ImgPipeline, model, sampler)
    (expected,) = plain(PROMPT, image=Image.fromarray(photo), strength=strength, **options()).images
    found = drawn_from(model, photo, strength, sampler=sampler)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize(("sampler", "strength"), CASES)
def test_inpainting_draws_what_its_pipeline_draws(loaded, photo, mask, sampler, strength):
    model, pipeline = loaded
    plain = as_sibling(pipeline, diffusers.StableDiffusionInpaintPipeline, model, sampler)
    (expected,) = plain(
        PROMPT,
        image=Image.fromarray(photo),
        mask_image=Image.fromarray(mask),
        strength=strength,
        **options(),
    ).images
    found = drawn_from(model, photo, strength, mask, sampler=sampler)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_with_eta_ddim_draws_what_the_pipeline_draws(loaded, eta):
    model, pipeline = loaded
    plain = as_sibling(pipeline, diffusers.StableDiffusionPipeline, model, Sampler.DDIM)
    (expected,) = plain(PROMPT, eta=eta, **options()).images
    found, without = (
        drawn(model, torch.Generator().manual_seed(7), sampler=Sampler.DDIM, eta=one)
        for one in (eta, 0.0)
    )
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(found - without).max() > 1e-2


def test_flows_draw_from_a_picture_as_their_pipeline_does(tmp_path, photo):
    write_z_image(tmp_path / "z-image", seed=0)
    model = load_model(tmp_path / "z-image", torch.device("cpu")).model
    plain = diffusers.ZImageImg2ImgPipeline(**plain_pipeline(tmp_path / "z-image").components)
    plain.set_progress_bar_config(disable=True)
    # It counts guidance from 0 on.
    settings = options() | {"guidance_scale": SCALE - 1, "height": 32, "width": 32}
    (expected,) = plain(PROMPT, image=Image.fromarray(photo), strength=0.6, **settings).images
    assert np.abs(drawn_from(model, photo, 0.6) - expected).max() < 1e-4


def test_what_is_not_masked_stays_as_the_vae_draws_it(loaded, photo, mask):
    model, _ = loaded
    generator = torch.Generator().manual_seed(7)
    latents = encode_pixels(model.codec, photo, generator)
    where = latent_mask(model.codec, mask)
    assert sorted(set(where.flatten().tolist())) == [0, 1]
    noise = torch.randn(latents.shape, generator=generator)
    ended = draw(
        model.predict,
        begin(
            model,
            noise,
            model.states([PROMPT]),
            None,
            steps=STEPS,
            original=Original(latents=latents, strength=1.0, mask=where),
        ),
    )
    stays = where.expand_as(latents) == 0
    assert torch.equal(ended[stays], latents[stays])
    assert not torch.isclose(ended[~stays], latents[~stays]).any(dim=0).all()


def test_the_same_noise_and_picture_go_with_every_prompt(loaded):
    """A seed says what a picture begins with, the prompt has no part in it."""
    model, _ = loaded
    starts = []
    for prompt in ("a dog", "a cat"):
        noise = torch.randn(
            (1, *model.latent_shape(32, 32)), generator=torch.Generator().manual_seed(3)
        )
        starts.append(begin(model, noise, model.states([prompt]), None, steps=STEPS))
    assert torch.equal(*(start.latents for start in starts))
    first, second = (draw(model.predict, start) for start in starts)
    assert not torch.equal(first, second)


def test_what_can_not_be_done_is_refused_by_the_name_of_the_field(loaded):
    model, _ = loaded
    noise = torch.zeros(1, *model.latent_shape(32, 32))
    with pytest.raises(ValueError, match="eta: EulerDiscreteScheduler has none"):
        begin(model, noise, {}, None, steps=2, sampler=Sampler.EULER, eta=0.5)
    with pytest.raises(ValueError, match=r"strength: 0.1 of 5 steps is none; use at least 0.2"):
        begin(model, noise, {}, None, steps=5, original=Original(latents=noise, strength=0.1))
