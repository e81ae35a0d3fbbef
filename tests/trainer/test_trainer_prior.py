"""Class images are made once, by whoever comes first, and are the same whoever makes them."""

import threading
from dataclasses import replace

import pytest
import torch

from darkroom_sampling.trajectory import begin, draw
from darkroom_trainer.inputs.class_image_store import SHARD_IMAGES, ClassImageStore, prior_recipe
from darkroom_trainer.training import class_images
from darkroom_trainer.training.class_images import (
    draw_class_latents,
    make_class_images,
    read_class_latents,
)
from darkroom_trainer.training.models import load_base


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, torch.device("cpu"))


@pytest.fixture
def store(make_job, tmp_path):
    recipe = prior_recipe(make_job(tmp_path).spec, "0" * 64, "DDIM")
    return ClassImageStore(tmp_path / "class-images", recipe)


def make(store, base, shards, stop_after=10**6):
    made = []
    make_class_images(
        store,
        base,
        shards,
        should_stop=lambda: len(made) >= stop_after,
        on_shard=lambda: made.append(1),
    )
    return len(made)


def files(store):
    return {path.name: path.stat().st_mtime_ns for path in store.folder.glob("*.safetensors")}


def test_a_second_job_makes_none_and_one_that_wants_more_makes_the_rest(store, base):
    make(store, base, store.missing(8))
    before = files(store)
    assert store.missing(8) == []
    assert store.missing(20) == [1, 2]
    make(store, base, store.missing(20))
    assert before.items() <= files(store).items()
    assert read_class_latents(store, 20).shape == (20, 4, 8, 8)


def test_interrupted_making_goes_on_with_what_is_missing(store, base):
    make(store, base, store.missing(24), stop_after=1)
    assert store.missing(24) == [1, 2]


def test_a_shard_is_the_same_whoever_makes_it(store, base):
    first = draw_class_latents(base, store.recipe, 1)
    torch.rand(5)
    assert torch.equal(first, draw_class_latents(base, store.recipe, 1))
    assert not torch.equal(first, draw_class_latents(base, store.recipe, 0))


def test_a_damaged_shard_is_made_again(store, base):
    make(store, base, [0])
    (name,) = files(store)
    path = store.folder / name
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert store.missing(8) == [0]
    make(store, base, [0])
    assert list(files(store)) == [name]


def test_a_killed_writer_leaves_nothing_that_is_read(store):
    store.folder.mkdir(parents=True)
    (store.folder / ".00000000-abc.safetensors.partial").write_bytes(b"half")
    assert store.missing(8) == [0]


def test_two_jobs_at_once_share_the_work_and_draw_nothing_twice(store, base, monkeypatch):
    both = threading.Barrier(2)
    drawn = []

    def draw(base, recipe, index):
        drawn.append(index)
        return draw_class_latents(base, recipe, index)

    monkeypatch.setattr(class_images, "draw_class_latents", draw)

    def work():
        both.wait()
        make(store, base, [0, 1, 2])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.missing(24) == []
    assert sorted(drawn) == [0, 1, 2]


def test_latents_are_not_clipped_where_the_base_does_not_say(base):
    unsaid = {key: base.scheduler_config[key] for key in ("beta_schedule", "beta_end")}
    noise = torch.full((1, 4, 8, 8), 3.0)
    drawn = [
        draw(
            lambda latents, *_: torch.zeros_like(latents),
            begin(
                replace(base, scheduler_config=unsaid | clipping),
                noise,
                base.states(["a dog"]),
                guidance=None,
                steps=4,
            ),
        )
        for clipping in ({}, {"clip_sample": False})
    ]
    assert torch.equal(*drawn)
    assert float(drawn[0].min()) > 1


@pytest.mark.parametrize(
    "change",
    [
        {"subject": {"classNoun": "cat"}},
        {"priorPreservation": {"samplingSteps": 3}},
        {"priorPreservation": {"guidanceScale": "3.0"}},
        {"training": {"resolution": 64}},
    ],
)
def test_what_changes_the_pictures_changes_the_store(make_job, tmp_path, store, change):
    changed = prior_recipe(make_job(tmp_path, **change).spec, "0" * 64, "DDIM")
    assert changed.key != store.recipe.key


def test_what_changes_only_the_number_or_the_training_keeps_the_store(make_job, tmp_path, store):
    change = {"priorPreservation": {"numImages": 99}, "training": {"seed": 7, "maxSteps": 9}}
    assert prior_recipe(make_job(tmp_path, **change).spec, "0" * 64, "DDIM").key == store.recipe.key


def test_shards_hold_eight_images(store, base):
    assert len(draw_class_latents(base, store.recipe, 0)) == SHARD_IMAGES
