"""Aspect-ratio buckets while training: the order of photos, micro batches of one size, and the plan."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from darkroom.plan_view import plan_json, plan_table
from darkroom_api.pictures.buckets import photo_buckets
from darkroom_sampling.families.stable_diffusion import UNetDenoiser
from darkroom_trainer.driver.run import RunOptions, prepare
from darkroom_trainer.families.noise_prediction import NoisePrediction
from darkroom_trainer.inputs.photos import crop_of, load_photos
from darkroom_trainer.training.batch_source import batch_source
from darkroom_trainer.training.batches import BatchSource, Bucket, Prompts, samples_of
from darkroom_trainer.training.data_order import draws_of_micro_batch
from darkroom_trainer.training.latents import Moments
from darkroom_trainer.training.models import load_base
from darkroom_trainer.training.streams import Stream, shuffled_index
from darkroom_trainer.training.teacher import Teacher

SHAPES = {"a": (48, 80), "b": (80, 48), "c": (50, 79), "d": (64, 64), "e": (47, 80)}
"""Width and height of photos by name: three are tall, one is wide and one is a square."""

draws_of_buckets = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder with those photos."""
    folder = tmp_path_factory.mktemp("shapes")
    for number, (name, size) in enumerate(SHAPES.items()):
        noise = [Image.effect_noise(size, 60 + number) for _ in range(3)]
        Image.merge("RGB", noise).save(folder / f"{name}.png")
    return folder


@given(draws_of_buckets, st.integers(1, 4), st.integers(0, 3), st.integers(0, 99))
def test_every_round_draws_every_photo_as_often(draws, size, turn, seed):
    length = sum(draws)
    drawn = Counter()
    for number in range(turn * length, (turn + 1) * length):
        bucket, chosen = draws_of_micro_batch(seed, draws, number, size)
        assert len(chosen) == size
        drawn.update((bucket, draw) for draw in chosen)
    assert drawn == {
        (bucket, draw): size for bucket, count in enumerate(draws) for draw in range(count)
    }


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 50))
def test_one_bucket_has_the_order_that_photos_have_without_buckets(length, size, number):
    positions = range(number * size, (number + 1) * size)
    before = [shuffled_index(5, Stream.INSTANCE_ORDER, at, length) for at in positions]
    assert draws_of_micro_batch(5, [length], number, size) == (0, before)


def test_two_buckets_are_shuffled_and_so_is_each_of_them():
    found = [draws_of_micro_batch(1, [4, 4], number, 1) for number in range(24)]
    rounds = [found[:8], found[8:16], found[16:]]
    assert len({tuple(bucket for bucket, _ in one) for one in rounds}) > 1
    for bucket in (0, 1):
        orders = [[draw for at, (draw,) in one if at == bucket] for one in rounds]
        assert len(set(map(tuple, orders))) > 1
    assert orders != [[draw for at, (draw,) in one if at == 0] for one in rounds]


@pytest.fixture
def source():
    """Photos 0 and 2 are 2 x 3 latents, photo 1 is a 4 x 2 one; the class images are 3 x 3."""

    def bucket(photos, height, width):
        means = torch.tensor(photos).float().view(-1, 1, 1, 1, 1)
        means = means.expand(len(photos), 1, 4, height, width)
        crops = torch.tensor([[photo, height, width, 0, 0, 0] for photo in photos])
        moments = Moments(means, torch.full_like(means, -30.0), scaling_factor=1.0)
        return Bucket(photos, moments, range(len(photos)), crops.float())

    return BatchSource(
        seed=1,
        global_batch_size=4,
        buckets=[bucket([0, 2], 2, 3), bucket([1], 4, 2)],
        prompts=Prompts({"tokens": torch.arange(4)[:, None]}, [0, 1, 2], class_row=3),
        class_latents=None,
        teacher=None,
        objective=NoisePrediction(torch.ones(10), "epsilon", {}),
    )


def micro_batches(source, steps, world_size=1):
    for step in range(steps):
        for rank in range(world_size):
            for samples in samples_of(rank, world_size, 2, 2 // world_size):
                yield source.draw(step, samples)


def test_a_micro_batch_has_photos_of_one_size_with_their_own_prompts_and_crops(source):
    sizes, photos = Counter(), Counter()
    for batch in micro_batches(source, 6):
        (one,) = batch.passes
        sizes[tuple(one.noisy.shape[2:])] += 1
        rows = batch.prompts["tokens"][one.prompt_rows, 0].tolist()
        assert one.noisy[:, 0, 0, 0].round().tolist() == rows
        assert one.crops[:, 0].tolist() == rows
        assert one.crops[:, 1:3].tolist() == [list(one.noisy.shape[2:])] * 2
        photos.update(rows)
    assert sizes == {(2, 3): 8, (4, 2): 4}
    assert photos == {0: 8, 1: 8, 2: 8}


def test_workers_share_the_micro_batches_of_one(source):
    whole, shared = (
        Counter(tuple(one.passes[0].noisy.shape) for one in micro_batches(source, 6, world_size))
        for world_size in (1, 2)
    )
    assert whole == shared


def test_class_images_stay_squares_in_a_pass_of_their_own(source):
    source = replace(source, class_latents=torch.full((5, 4, 3, 3), 9.0), snr_gamma=5.0)
    for batch in micro_batches(source, 6):
        photos, others = batch.passes
        assert others.noisy.shape == (2, 4, 3, 3)
        assert batch.prompts["tokens"][others.prompt_rows, 0].tolist() == [3, 3]
        assert others.crops is None
        assert len(photos.noisy) == batch.num_instance == 2
        assert len(batch.weights) == 4


def test_a_teacher_is_told_of_the_same_photos_and_their_crops(source):
    told = []

    class Denoiser(UNetDenoiser):
        def predict(self, network, noisy, timesteps, conditions):
            told.append(conditions["crops"])
            return noisy

    teacher = Teacher(Denoiser(torch.nn.Identity()), torch.nn.Identity(), torch.float32, {})
    (one,) = replace(source, teacher=teacher).draw(0, range(2)).passes
    assert len(one.noisy) == 4
    assert one.crops[:2].equal(one.crops[2:])
    assert told[0].equal(one.crops[2:])


def bucketed(make_job, root, shapes, **changes):
    changes["training"] = {"aspectRatioBuckets": True} | changes.get("training", {})
    return make_job(root, subject={"images": {"uri": f"file:{shapes}"}}, **changes)


def test_the_plan_shows_the_buckets_their_photos_and_what_is_cropped(make_job, tmp_path, shapes):
    options = RunOptions(job_folder=tmp_path, work_dir=tmp_path)
    prepared = prepare(bucketed(make_job, tmp_path, shapes), options)
    assert plan_json(prepared)["buckets"] == [
        {"width": 24, "height": 40, "photos": ["a.png", "c.png", "e.png"], "most_lost": 0.052},
        {"width": 32, "height": 32, "photos": ["d.png"], "most_lost": 0.0},
        {"width": 40, "height": 24, "photos": ["b.png"], "most_lost": 0.0},
    ]
    (photos,) = [text for text in plan_table(prepared).columns[1].cells if "24 x 40" in str(text)]
    assert "24 x 40 pixels: 3 photos, cropped by 5% at most" in photos
    assert "40 x 24 pixels: 1 photo, cropped by 0% at most" in photos

    squares = make_job(tmp_path, subject={"images": {"uri": f"file:{shapes}"}})
    prepared = prepare(squares, options)
    assert plan_json(prepared)["buckets"] == []
    assert all(" x " not in str(text) for text in plan_table(prepared).columns[1].cells)


def test_photos_become_latents_by_bucket_with_the_crops_of_their_files(
    make_job, tmp_path, shapes, tiny_base
):
    job = bucketed(
        make_job,
        tmp_path,
        shapes,
        priorPreservation={"mode": "Disabled"},
        training={"resolution": 64},
    )
    prepared = prepare(job, RunOptions(job_folder=tmp_path, work_dir=tmp_path))
    base = load_base(tiny_base, torch.device("cpu"))
    buckets = photo_buckets(job.spec.training, prepared.task.base.side_step)
    photos = load_photos(shapes, 64, buckets)
    source = batch_source(prepared.task, base, photos)
    found = [(list(one.photos), tuple(one.moments.mean.shape[3:])) for one in source.buckets]
    assert found == [([0, 2, 4], (20, 12)), ([3], (16, 16)), ([1], (12, 20))]
    assert source.buckets[0].crops.tolist() == [
        list(crop_of(photos.photos[at])) for at in (0, 2, 4)
    ]
    # Scaled by 80 / 79, 50 x 79 pixels are 50.6 x 80: a pixel on either side goes.
    assert crop_of(photos.photos[2]) == (79, 50, 0, 1, 80, 48)
