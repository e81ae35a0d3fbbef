"""Micro batches: each photo with its own prompt, and as often as it repeats."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from PIL import Image

from darkroom_api.artifact import TrainState
from darkroom_sampling.families.stable_diffusion import UNetDenoiser
from darkroom_sampling.protocols import rows_of
from darkroom_trainer.driver.run import RunOptions, prepare
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.families.noise_prediction import NoisePrediction
from darkroom_trainer.inputs.photos import load_photos
from darkroom_trainer.output import checkpoint
from darkroom_trainer.training.batch_source import prompts_of
from darkroom_trainer.training.batches import BatchSource, Bucket, Prompts
from darkroom_trainer.training.latents import Moments
from darkroom_trainer.training.models import load_base
from darkroom_trainer.training.teacher import Teacher

PHOTOS = 3
VALUES = {"tokens": torch.arange(4)[:, None].expand(4, 5)}
"""Prompts 0 to 3: each is its own number, five times."""


@pytest.fixture
def source():
    """Photo n has a latent of n and, as prompt, row n; the class prompt is row 3."""
    means = torch.arange(float(PHOTOS)).view(PHOTOS, 1, 1, 1, 1).expand(PHOTOS, 1, 4, 2, 2)
    moments = Moments(means, torch.full_like(means, -30.0), scaling_factor=1.0)
    return BatchSource(
        seed=1,
        global_batch_size=2,
        buckets=[Bucket(range(PHOTOS), moments, draws=range(PHOTOS))],
        prompts=Prompts(VALUES, instance_rows=[0, 1, 2], class_row=3),
        class_latents=None,
        teacher=None,
        # No noise: the latents can be recognised.
        objective=NoisePrediction(torch.ones(10), "epsilon", {}),
    )


def in_order(source, draws):
    """The same photos in a round of other draws."""
    (bucket,) = source.buckets
    return replace(source, buckets=[replace(bucket, draws=draws)])


def drawn(source, steps):
    """Photo and prompt of every sample."""
    for step in range(steps):
        batch = source.draw(step, range(2))
        (one,) = batch.passes
        photos = one.noisy[: batch.num_instance, 0, 0, 0].round().int().tolist()
        prompts = batch.prompts["tokens"][one.prompt_rows[: batch.num_instance], 0].tolist()
        yield from zip(photos, prompts, strict=True)


def test_a_photo_has_its_own_prompt(source):
    assert set(drawn(source, 6)) == {(0, 0), (1, 1), (2, 2)}


def test_class_images_have_the_class_prompt(source):
    source = replace(source, class_latents=torch.full((5, 4, 2, 2), 9.0))
    batch = source.draw(0, range(2))
    (one,) = batch.passes
    assert batch.prompts["tokens"][one.prompt_rows[2:], 0].tolist() == [3, 3]


def test_a_teacher_is_asked_about_the_same_photos_under_the_class_prompt_and_says_what_to_predict(
    source,
):
    asked = []

    class Unet(torch.nn.Module):
        def forward(self, noisy, timesteps, states, return_dict):
            asked.append((noisy, timesteps, states))
            return (noisy + 7,)

    denoiser = UNetDenoiser(Unet())
    states = {"states": torch.full((1, 5, 3), 2.0)}
    teacher = Teacher(denoiser, denoiser.network, torch.float32, states)
    source = replace(source, teacher=teacher)
    batch = source.draw(0, range(2))
    (one,), ((noisy, timesteps, states),) = batch.passes, asked
    assert noisy.equal(one.noisy[2:])
    assert noisy.equal(one.noisy[:2])  # without noise they are the same latents
    assert timesteps.equal(one.timesteps[2:])
    assert not timesteps.equal(one.timesteps[:2])
    assert states.equal(torch.full((2, 5, 3), 2.0))
    assert one.target[2:].equal(noisy + 7)
    assert batch.prompts["tokens"][one.prompt_rows[2:], 0].tolist() == [3, 3]


def test_only_the_prompts_of_a_batch_are_encoded(source):
    batch = source.draw(0, range(1))
    assert len(batch.prompts["tokens"]) == 2  # that of the photo, and that of the class
    two = rows_of(VALUES, [0, 1])
    plain = replace(source, prompts=Prompts(two, instance_rows=[0, 0, 0], class_row=1))
    for step in range(3):
        batch = plain.draw(step, range(2))
        assert batch.prompts["tokens"].equal(two["tokens"])
        assert [one.prompt_rows.tolist() for one in batch.passes] == [[0, 0]]


def test_a_photo_is_drawn_as_often_as_it_repeats(source):
    source = in_order(source, [0, 1, 1, 1, 1, 2])
    rounds = Counter(photo for photo, _ in drawn(source, 3 * 4))
    assert rounds == {0: 4, 1: 16, 2: 4}


def test_without_repeats_the_order_is_what_it_was(source):
    once = [photo for photo, _ in drawn(source, 3)]
    assert sorted(once[:3]) == sorted(once[3:]) == [0, 1, 2]
    assert [photo for photo, _ in drawn(in_order(source, [0, 1, 2]), 3)] == once


@pytest.mark.parametrize("train_text_encoder", [True, False])
def test_captions_become_prompts_of_the_denoiser(make_job, tiny_base, tmp_path, train_text_encoder):
    for number, colour in enumerate(("red", "lime", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number}.png")
    (tmp_path / "1.txt").write_text("a photo of [identifier] asleep")
    (tmp_path / "2.txt").write_text("asleep")
    job = make_job(tmp_path, training={"trainTextEncoder": train_text_encoder})
    base, photos = load_base(tiny_base, torch.device("cpu")), load_photos(tmp_path, 32)
    found = prompts_of(base, job.spec, photos)
    expected = [
        "a photo of sks dog",
        "a photo of sks asleep",
        "sks dog, asleep",
        "a photo of a dog",
    ]
    encode, name = (base.tokens, "tokens") if train_text_encoder else (base.states, "states")
    assert found.values.keys() == {name}
    assert found.values[name].equal(encode(expected)[name])
    assert (list(found.instance_rows), found.class_row) == ([0, 1, 2], 3)


def test_a_caption_that_is_cut_off_is_told_in_the_plan(make_job, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, colour in enumerate(("red", "lime", "blue")):
        Image.new("RGB", (64, 64), colour).save(photos / f"{number}.png")
    (photos / "1.txt").write_text("a dog " * 20 + "sks")
    job = make_job(
        tmp_path,
        baseModel={"uri": "builtin:miniature"},
        subject={"images": {"uri": f"file:{photos}"}},
        training={"resolution": 64},
    )
    prepared = prepare(job, RunOptions(job_folder=tmp_path, work_dir=tmp_path))
    assert prepared.plan.captions == {"1.png": "a dog " * 20 + "sks"}
    (cut,) = [warning for warning in prepared.warnings if "cut off" in warning]
    assert cut.startswith("spec.subject.images: the prompt 'a dog a dog")
    assert "cut off, the identifier with it" in cut


def test_a_checkpoint_is_not_continued_with_other_captions(make_job, tmp_path):
    for number, colour in enumerate(("red", "lime", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{number}.png")
    job = make_job(tmp_path, subject={"images": {"uri": f"file:{tmp_path}"}})
    task = prepare(job, RunOptions(job_folder=tmp_path, work_dir=tmp_path)).task
    before = task.inputs_digest(load_photos(tmp_path, 32))
    (tmp_path / "1.txt").write_text("sks dog, asleep")
    state = TrainState(
        step=2,
        seed=0,
        world_size=1,
        zero_stage=2,
        spec_digest=checkpoint.numerics_digest(job.spec),
        inputs_digest=before,
    )
    found = checkpoint.Checkpoint(tmp_path, state)
    now = task.inputs_digest(load_photos(tmp_path, 32))
    checkpoint.refuse_other_run(found, job.spec, before)
    with pytest.raises(TrainerError, match="the photos, their captions or the base model"):
        checkpoint.refuse_other_run(found, job.spec, now)
