"""Every family trains: a batch is learnt by heart, a run resumes to the same bytes, a plain pipeline draws the same."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from darkroom_api.integrity import read_manifest
from darkroom_api.registry import find
from darkroom_sampling.protocols import rows_of
from darkroom_sampling.trajectory import Guidance, begin, draw
from darkroom_testing.plain_pipelines import plain_pipeline
from darkroom_testing.tiny_families import write_stable_diffusion_xl, write_z_image
from darkroom_trainer.driver.base_check import class_warnings
from darkroom_trainer.families.layout import known_families
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.inputs.photos import crop_of, load_photos
from darkroom_trainer.training import validation
from darkroom_trainer.training.batches import BatchSource, Bucket, Prompts
from darkroom_trainer.training.latents import encode_moments
from darkroom_trainer.training.loss import squared_errors
from darkroom_trainer.training.models import load_base, trainable_denoiser

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

CPU = torch.device("cpu")
WORKER = Path(__file__).with_name("loss_worker.py")
PROMPT = "a photo of sks dog"
STEPS = 4


@pytest.fixture(scope="session")
def bases(tmp_path_factory, write_base):
    """A tiny base model of each family, and of a zero terminal SNR."""
    folder = tmp_path_factory.mktemp("families")
    write_base(folder / "zero-terminal", seed=0)
    diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    ).save_pretrained(folder / "zero-terminal" / "scheduler")
    write_stable_diffusion_xl(folder / "xl", seed=0)
    write_z_image(folder / "z-image", seed=0)
    return folder


FAMILIES = {"zero-terminal": True, "xl": True, "z-image": False}
"""The tiny base models, and whether their text encoders can be trained."""


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def batch_source(base, photos, *, train_text_encoder):
    """Two photos of one size under one prompt, and a class prompt that nothing is drawn for."""
    two = photos.photos[:2]
    pixels = torch.stack([torch.from_numpy(photo.pixels) for photo in two])
    crops = torch.tensor([crop_of(photo) for photo in two]).float()
    values = base.prompts([PROMPT, "a dog"], torch.float32, train_text_encoder=train_text_encoder)
    moments = encode_moments(base.codec, pixels, horizontal_flip=False, device=CPU)
    return BatchSource(
        seed=1,
        global_batch_size=2,
        buckets=[Bucket([0, 1], moments, draws=[0, 1], crops=crops)],
        prompts=Prompts(values, instance_rows=[0, 0], class_row=1),
        class_latents=None,
        teacher=None,
        objective=base.objective,
    )


def test_one_batch_of_photos_that_are_no_squares_is_learnt_by_heart(name, bases, tiny_photos):
    base = load_base(bases / name, CPU)
    trained = FAMILIES[name]
    module = trainable_denoiser(base, train_text_encoder=trained)
    photos = load_photos(tiny_photos, 32, [(24, 40)])
    source = batch_source(base, photos, train_text_encoder=trained)
    batch = source.draw(0, range(2))
    (one,) = batch.passes
    parameters = [trained for trained in module.parameters() if trained.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(60):
        predicted = module(one.noisy, one.timesteps, batch.prompts, one.prompt_rows, one.crops)
        loss = squared_errors(predicted, one.target).mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        assert all(trained.grad is not None for trained in parameters), "nothing is trained in vain"
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_the_sizes_that_stable_diffusion_xl_is_told_are_those_of_the_files_and_of_class_images(
    bases, tiny_photos
):
    base, told = load_base(bases / "xl", CPU), []
    module = trainable_denoiser(base, train_text_encoder=True)
    module.network.add_time_proj.register_forward_hook(
        lambda layer, given, numbers: told.append(given[0].view(-1, 6).tolist())
    )
    photos = load_photos(tiny_photos, 32, [(24, 40)])
    source = batch_source(base, photos, train_text_encoder=True)
    batch = replace(source, class_latents=torch.zeros(1, 4, 8, 8)).draw(0, range(2))
    for one in batch.passes:
        module(one.noisy, one.timesteps, batch.prompts, one.prompt_rows, one.crops)
    # 32 x 40 pixels: four at the left and the right go.
    assert told == [[[40, 32, 0, 4, 40, 24]] * 2, [[32, 32, 0, 0, 32, 32]] * 2]


def job_of(make_job, bases, root, name, *, stage, train_text_encoder):
    return make_job(
        root,
        baseModel={"uri": f"file:{bases / name}"},
        training={
            "maxSteps": STEPS,
            "trainTextEncoder": train_text_encoder,
            "textEncoderLearningRate": "5e-4" if train_text_encoder else None,
            "gradientCheckpointing": stage == 0,
        },
        validation={"everySteps": STEPS, "prompts": [PROMPT]},
        scale={"zeroStage": stage},
    )


def run(tasks, folder):
    """Trains jobs in the trainer's own worker, one after the other; their losses by name."""
    (folder / "tasks.json").write_text(json.dumps(tasks))
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder / "tasks.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


CASES = {
    f"{name}-zero-{stage}": (name, stage, stage == 2 and trains)
    for name, trains in FAMILIES.items()
    for stage in (0, 2)
}
"""The base, the ZeRO stage, and whether the text encoder is trained."""

ALWAYS = ("xl-zero-2", "z-image-zero-0")
"""The cases that stand in every run; the tests of resuming train Stable Diffusion."""

each_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in ALWAYS else pytest.mark.exhaustive) for case in CASES],
)


@pytest.fixture(scope="session")
def trained(request, tmp_path_factory, make_job, bases, tiny_photos):
    """The cases of this run trained whole and from step 2 on: the folders of both models, by case."""
    folder = tmp_path_factory.mktemp("trained")
    asking = [item for item in request.session.items if "trained" in item.fixturenames]
    cases = dict.fromkeys(item.callspec.params["case"] for item in asking)

    def entry(case, root):
        name, stage, encoder = CASES[case]
        job = job_of(make_job, bases, root, name, stage=stage, train_text_encoder=encoder)
        return {
            "name": case,
            "job": job.model_dump_json(by_alias=True),
            "root": str(root),
            "base": str(bases / name),
            "photos": str(tiny_photos),
        }

    run([entry(case, folder / case) for case in cases], folder)
    for case in cases:
        for part in ("run/checkpoints/step-00000002", "class-images"):
            shutil.copytree(folder / case / part, folder / f"{case}-again" / part)
    steps = run([entry(case, folder / f"{case}-again") for case in cases], folder)
    assert len(steps) == 2 * len(cases), "only the last two steps were left"
    return {
        case: [find(folder / root / "models", "tiny").folder for root in (case, f"{case}-again")]
        for case in cases
    }


@each_case
def test_a_run_that_was_interrupted_publishes_the_same_bytes(trained, case):
    whole, again = trained[case]
    assert read_manifest(whole).digest == read_manifest(again).digest


@each_case
def test_what_is_published_is_what_was_trained(trained, make_job, bases, tmp_path, case):
    """The grid that the run drew with its weights in training is the one of its published model."""
    folder, _ = trained[case]
    name, _, stage = case.rpartition("-zero-")
    job = job_of(make_job, bases, tmp_path, name, stage=int(stage), train_text_encoder=False)
    base = load_base(folder, CPU)
    module = trainable_denoiser(base, train_text_encoder=False)
    again = validation.draw_grid(base, module, job.spec, torch.float32)
    drawn = np.asarray(Image.open(folder / "contact-sheet.png").convert("RGB"), dtype=int)
    assert np.abs(drawn - np.asarray(again, dtype=int)).max() <= 1
    before = load_base(bases / name, CPU)
    untrained = validation.draw_grid(
        before, trainable_denoiser(before, train_text_encoder=False), job.spec, torch.float32
    )
    assert np.abs(drawn - np.asarray(untrained, dtype=int)).max() > 1, "nothing was trained"


def drawn_by_us(base, noise):
    states = base.states(["", PROMPT])

    guidance = Guidance(rows_of(states, [0]), 2.0)
    ours = draw(base.predict, begin(base, noise, rows_of(states, [1]), guidance, steps=3))
    with torch.no_grad():
        return (base.codec.decode(ours) / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()


def drawn_by_diffusers(folder, noise):
    family = known_families()[json.loads((folder / "model_index.json").read_text())["_class_name"]]
    pipeline = plain_pipeline(folder)
    assert type(pipeline).__name__ == family.pipeline
    if family.sampler == "DDIM":
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(
            pipeline.scheduler.config, clip_sample=False
        )
    return pipeline(
        PROMPT,
        latents=noise,
        height=32,
        width=32,
        num_inference_steps=3,
        # Z-Image counts guidance from 0 on.
        guidance_scale=1.0 if family.name == "z_image" else 2.0,
        output_type="np",
    ).images[0]


@each_case
def test_a_plain_pipeline_draws_the_picture_of_our_sampler(trained, case):
    folder, _ = trained[case]
    base = load_base(folder, CPU)
    noise = torch.randn(1, *base.latent_shape(32, 32), generator=torch.Generator().manual_seed(0))
    drawn = drawn_by_diffusers(folder, noise)
    assert np.abs(drawn - drawn_by_us(base, noise)).max() < 1e-4
    assert drawn.std() > 0.01


@pytest.mark.usefixtures("classes_built_here")
def test_a_base_of_each_family_fits_its_classes(bases, name):
    assert class_warnings(inspect_base("file:base", bases / name)) == []
