"""Samplers: each draws what diffusers' pipeline draws, in any company; names; which model each suits."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom_sampling.families.stable_diffusion import load
from darkroom_sampling.protocols import rows_of
from darkroom_sampling.samplers import (
    AUTOMATIC1111,
    SPECS,
    Sampler,
    build_scheduler,
    sampler_by_name,
    samplers_of_noise,
    set_steps,
)
from darkroom_sampling.trajectory import Guidance, advance, begin, draw
from darkroom_serving.drawing.studio import resolve
from darkroom_serving.errors import ApiError
from darkroom_serving.models.loading import Files, load_model
from darkroom_serving.web.wire import ImagesRequest
from darkroom_testing.plain_pipelines import plain_pipeline

SCALE = 3.0
STEPS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_base):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_base(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, torch.device("cpu")).model


@pytest.fixture(scope="module")
def pipeline(folder):
    return plain_pipeline(folder)


def started(model, sampler, steps=STEPS, seed=7, **options):
    generator = torch.Generator().manual_seed(seed)
    states = model.states(["", "a dog"])
    return begin(
        model,
        torch.randn((1, *model.latent_shape(32, 32)), generator=generator),
        rows_of(states, [1]),
        Guidance(rows_of(states, [0]), SCALE),
        steps=steps,
        sampler=sampler,
        generator=generator,
        **options,
    )


def plainly(pipeline, model, sampler, **options):
    """The latents that diffusers' pipeline draws with the scheduler of that sampler, (1, C, h, w)."""
    pipeline.scheduler = build_scheduler(model.samplers[sampler], model.scheduler_config)
    generator = torch.Generator().manual_seed(7)
    return pipeline(
        "a dog", guidance_scale=SCALE, generator=generator, output_type="latent", **options
    ).images


@pytest.fixture(scope="module")
def alone(model):
    """What each sampler draws by itself."""
    return {sampler: draw(model.predict, started(model, sampler)) for sampler in Sampler}


@pytest.mark.parametrize("sampler", list(Sampler))
def test_every_sampler_draws_what_diffusers_pipeline_draws(model, pipeline, alone, sampler):
    expected = plainly(pipeline, model, sampler, num_inference_steps=STEPS)
    torch.testing.assert_close(alone[sampler], expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        ours, theirs = (model.codec.decode(latents) for latents in (alone[sampler], expected))
    assert (ours - theirs).abs().max() < 1e-4


# An even number of steps, and enough for the third order up to the end.
@pytest.mark.parametrize(
    ("sampler", "steps"), [(Sampler.DPMSOLVER_2S, 6), (Sampler.DPMSOLVER_3M, 16)]
)
def test_solvers_of_higher_orders_do_other_numbers_of_steps(model, pipeline, sampler, steps):
    expected = plainly(pipeline, model, sampler, num_inference_steps=steps)
    found = draw(model.predict, started(model, sampler, steps))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_with_eta_tcd_draws_what_the_pipeline_draws(model, pipeline):
    expected = plainly(pipeline, model, Sampler.TCD, eta=0.3, num_inference_steps=4)
    found = draw(model.predict, started(model, Sampler.TCD, 4, eta=0.3))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    without = draw(model.predict, started(model, Sampler.TCD, 4))
    assert not torch.allclose(found, without, atol=1e-2)


def test_all_samplers_at_once_draw_what_each_draws_alone(model, alone):
    together = [started(model, sampler) for sampler in Sampler]
    while left := [one for one in together if not one.finished]:
        advance(model.predict, left)
    for sampler, one in zip(Sampler, together, strict=True):
        difference = (one.latents - alone[sampler]).abs().max()
        assert difference < 1e-5 * alone[sampler].abs().max(), sampler


def test_no_two_samplers_draw_the_same_but_ddpm_and_euler_a_which_are_one_method(alone):
    like = [
        {one, other}
        for one, other in itertools.combinations(Sampler, 2)
        if torch.allclose(alone[one], alone[other], atol=1e-3, rtol=1e-3)
    ]
    assert like == [{Sampler.DDPM, Sampler.EULER_A}]


@pytest.mark.parametrize("steps", [16, 49])
def test_every_sampler_can_do_many_steps(model, steps):
    for sampler, spec in SPECS.items():
        scheduler = build_scheduler(spec, model.scheduler_config)
        set_steps(scheduler, spec, steps, "cpu")
        latents = torch.ones(1, 1, 2, 2) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            scheduler.scale_model_input(latents, timestep)
            said = torch.full_like(latents, 0.5)
            latents = scheduler.step(said, timestep, latents, return_dict=False)[0]
        assert latents.isfinite().all(), sampler


@pytest.mark.parametrize("sampler", [Sampler.LCM, Sampler.TCD])
def test_samplers_of_distilled_models_take_no_more_steps_than_the_teacher(model, sampler):
    body = {"prompt": "a dog", "sampler": sampler}
    (request,) = resolve(ImagesRequest(num_inference_steps=50, **body), model)
    assert len(started(model, sampler, request.steps).timesteps) == 50
    with pytest.raises(ApiError, match=f"num_inference_steps: must be at most 50 with {sampler}"):
        resolve(ImagesRequest(num_inference_steps=51, **body), model)
    with pytest.raises(ValueError, match="original_steps"):
        started(model, sampler, 51)


def schedule(model, **changes):
    return {**model.scheduler_config, **changes}


PREDICTIONS = ["epsilon", "sample", "v_prediction"]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_sampler_suits_a_model_when_diffusers_can_read_what_it_predicts(model, prediction):
    config = schedule(model, prediction_type=prediction)
    suitable = samplers_of_noise(config)
    assert next(iter(suitable)) is Sampler.DDIM
    for sampler, spec in SPECS.items():
        scheduler = build_scheduler(spec, config)
        set_steps(scheduler, spec, 4, "cpu")
        timestep, latents = scheduler.timesteps[0], torch.ones(1, 1, 2, 2)
        scheduler.scale_model_input(latents, timestep)
        try:
            scheduler.step(latents, timestep, latents)
        except (NotImplementedError, ValueError):
            assert sampler not in suitable
        else:
            assert sampler in suitable


def test_a_model_that_begins_with_pure_noise_has_only_samplers_that_do(model):
    config = schedule(
        model,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    suitable = samplers_of_noise(config)
    assert {Sampler.DDIM, Sampler.EULER, Sampler.DPMSOLVER, Sampler.UNIPC} <= set(suitable)
    assert not {Sampler.HEUN, Sampler.PNDM, Sampler.EULER_KARRAS} & set(suitable)
    pure = dataclasses.replace(model, samplers=suitable, scheduler_config=config)
    for sampler, spec in suitable.items():
        levels = build_scheduler(spec, config).alphas_cumprod
        assert levels[-1] < 1e-6
        assert draw(pure.predict, started(pure, sampler, 6)).isfinite().all()


def test_a_request_for_a_sampler_that_does_not_suit_is_refused_with_those_that_do(model):
    suitable = samplers_of_noise(schedule(model, prediction_type="sample"))
    other = dataclasses.replace(model, samplers=suitable)
    body = ImagesRequest(prompt="a dog", sampler=Sampler.EULER_A)
    with pytest.raises(
        ApiError, match="sampler: euler_a does not suit the model; use ddim or ddpm"
    ):
        resolve(body, other)


def test_a_model_whose_predictions_nobody_can_read_is_not_loaded(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    path = other / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "angle"}))
    with pytest.raises(ValueError, match="prediction_type: no sampler can read angle; use one of"):
        load(Files(other, {}, torch.device("cpu"), torch.float32))


def test_a_spacing_replaces_that_of_the_model(model):
    config = schedule(model, use_karras_sigmas=True)
    spaced = build_scheduler(SPECS[Sampler.EULER_EXPONENTIAL], config)
    assert (spaced.config.use_karras_sigmas, spaced.config.use_exponential_sigmas) == (False, True)
    spaced.set_timesteps(5)
    steps = np.diff(np.log(spaced.sigmas[:-1]))
    assert np.ptp(steps) < 1e-4
    assert build_scheduler(SPECS[Sampler.EULER], config).config.use_karras_sigmas


NAMES = [
    ("Euler a", None, Sampler.EULER_A),
    ("k_euler_a", None, Sampler.EULER_A),
    ("euler_ancestral", "", Sampler.EULER_A),
    ("EulerAncestralDiscreteScheduler", None, Sampler.EULER_A),
    ("DPM++ 2M", "Automatic", Sampler.DPMSOLVER),
    ("DPM++ 2M Karras", None, Sampler.DPMSOLVER_KARRAS),
    ("DPM++ 2M", "karras", Sampler.DPMSOLVER_KARRAS),
    ("DPM++ 2M Karras", "Karras", Sampler.DPMSOLVER_KARRAS),
    ("dpmpp_2m_sde", "exponential", Sampler.DPMSOLVER_SDE_EXPONENTIAL),
    ("DPM++ 3M SDE Exponential", None, Sampler.DPMSOLVER_3M_SDE_EXPONENTIAL),
    ("DPMSolverMultistepScheduler", None, Sampler.DPMSOLVER),
    ("DPMSolverMultistepScheduler", "Karras", Sampler.DPMSOLVER_KARRAS),
    ("DPMSolverSinglestepScheduler", None, Sampler.DPMSOLVER_2S),
    ("dpmsolver++", None, Sampler.DPMSOLVER),
    ("DPM2 a", "Karras", Sampler.KDPM2_A_KARRAS),
    ("k_dpm_2", None, Sampler.KDPM2),
    ("PLMS", None, Sampler.PNDM),
    ("UniPC", "Karras", Sampler.UNIPC_KARRAS),
    ("FlowMatchEulerDiscreteScheduler", None, Sampler.EULER),
    ("DDIM", None, Sampler.DDIM),
    ("DDIM", "Karras", None),
    ("DPM++ 2M Karras", "Exponential", None),
    ("DPM++ 2M", "Beta", None),
    ("DPM++ 2M", "SDE", None),
    ("Euler", "a", None),
    ("DPM++ SDE", None, None),
    ("DPM++ 2M SDE Heun", None, None),
    ("LMS", None, None),
    ("karras", None, None),
    ("", "Karras", None),
    ("", None, None),
]


@pytest.mark.parametrize(("name", "spacing", "sampler"), NAMES)
def test_samplers_are_found_by_the_names_of_other_programs(name, spacing, sampler):
    assert sampler_by_name(name, spacing) is sampler


def test_each_sampler_is_found_by_its_own_name_and_its_label():
    assert [sampler_by_name(name) for name in Sampler] == list(Sampler)
    assert [sampler_by_name(AUTOMATIC1111[name]) for name in Sampler] == list(Sampler)


def test_the_page_about_the_server_has_every_sampler():
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    table = page.partition("## Samplers")[2].partition("A model refuses")[0]
    assert [name for name in Sampler if f"`{name}`" not in table] == []
