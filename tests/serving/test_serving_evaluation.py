"""A model is evaluated as it is served, on its own photos, and what is missing is said before anything is drawn."""

import asyncio
import base64
import io
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from darkroom_api.artifact import (
    Addition,
    ArtifactKind,
    BaseReference,
    Training,
)
from darkroom_api.builtin import builtin_folder
from darkroom_api.integrity import read_manifest
from darkroom_api.registry import publish, staging_folder
from darkroom_serving.drawing.studio import Studio
from darkroom_serving.errors import ApiError
from darkroom_serving.evaluation.errors import EvaluationError
from darkroom_serving.evaluation.preparation import EvaluationRequest, prepare
from darkroom_serving.evaluation.run import evaluate
from darkroom_serving.models.bases import ADDITIONS
from darkroom_serving.models.catalogue import ModelCatalogue
from darkroom_serving.settings import Limits
from darkroom_serving.web.wire import ImagesRequest
from darkroom_testing.tiny_additions import write_adapter, write_embeddings
from darkroom_testing.tiny_encoders import write_clip, write_dino

PROMPTS = ("a <sks> dog at sea", "a red <sks> dog", "<sks> in a box")
STEPS = 2


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Tests run beside each other: threads that wait for one another would take minutes."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {"dino": write_dino(folder / "dino"), "clip": write_clip(folder / "clip")}


@pytest.fixture
def registry(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def publish_rex(registry, serving_base, seal_folder):
    """Publishes a subject: the base's own weights, or what goes on the base."""

    def build(kind=ArtifactKind.SUBJECT_MODEL, images="builtin:mascot"):
        partial = staging_folder(registry, "default", "rex")
        if kind is ArtifactKind.SUBJECT_MODEL:
            shutil.copytree(serving_base, partial, ignore=shutil.ignore_patterns("manifest.json"))
        else:
            partial.mkdir()
        if kind is ArtifactKind.ADAPTER:
            write_adapter(serving_base, partial)
        if kind is ArtifactKind.EMBEDDINGS:
            write_embeddings(partial, "<sks>", vectors=2)
        subject = {"kind": "Animal", "identifier": "<sks>", "classNoun": "dog"}
        training = Training(
            spec={"subject": subject | {"images": {"uri": images}}},
            instance_prompt="a photo of <sks> dog",
            class_prompt="a photo of a dog",
            steps=4,
            seed=0,
            created="2026-11-23T12:00:00Z",
            versions={},
        )
        digest = read_manifest(serving_base).digest
        seal_folder(
            partial,
            kind,
            "rex",
            training=training,
            base=BaseReference(uri="builtin:miniature", digest=digest),
            adds=None if kind is ArtifactKind.SUBJECT_MODEL else Addition(trigger="<sks>"),
        )
        return publish(partial, registry)

    return build


@pytest.fixture
def request_for(registry, serving_base, encoders, tmp_path):
    """A request for few small pictures, with what is given changed."""
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS))
    plain = EvaluationRequest(
        model="rex",
        registry=registry,
        base=serving_base,
        **encoders,
        photos=None,
        gallery=None,
        prompts=file,
        images_per_prompt=2,
        steps=STEPS,
        guidance_scale=3.0,
        seed=5,
    )
    return lambda **changes: replace(plain, **changes)


def drawn(done):
    """The pixels of each prompt's pictures."""
    return {
        scores.prompt: np.stack([np.asarray(one) for one in pictures])
        for scores, pictures in zip(done.evaluation.prompts, done.subject_pictures, strict=True)
    }


def evaluated(request):
    return evaluate(prepare(request), lambda: None)


def served(registry, base, prompt, seed):
    """A picture as the server draws it."""
    studio = Studio(ModelCatalogue(registry, base), Limits(), max_models=1)
    request = ImagesRequest(
        prompt=prompt, model="rex", seed=seed, num_inference_steps=STEPS, guidance_scale=3.0
    )
    (image,) = asyncio.run(studio.draw(request)).data
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image.b64_json))))


@pytest.mark.parametrize("kind", [ArtifactKind.SUBJECT_MODEL, *ADDITIONS], ids=str)
def test_what_is_measured_is_what_the_server_draws(
    publish_rex, request_for, registry, serving_base, kind
):
    entry = publish_rex(kind)
    done = evaluated(request_for())
    for scores in done.evaluation.prompts:
        for seed, picture in zip(scores.seeds, drawn(done)[scores.prompt], strict=True):
            assert np.array_equal(served(registry, serving_base, scores.prompt, seed), picture)
    model = done.evaluation.model
    base = read_manifest(serving_base).digest if kind in ADDITIONS else None
    assert (model.id, model.digest, model.base_digest) == ("rex", entry.digest, base)


def test_new_tokens_change_the_pictures_of_prompts_with_them_alone(
    publish_rex, request_for, tmp_path
):
    publish_rex()
    plain = evaluated(request_for())
    shutil.rmtree(tmp_path / "models")
    publish_rex(ArtifactKind.EMBEDDINGS)
    added = evaluated(request_for())
    assert all((drawn(plain)[prompt] != drawn(added)[prompt]).any() for prompt in PROMPTS)
    for ours, theirs in zip(plain.class_pictures, added.class_pictures, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_the_order_of_the_prompts_and_their_number_change_no_picture(
    publish_rex, request_for, tmp_path
):
    publish_rex()
    plain = evaluated(request_for())
    reordered = tmp_path / "reordered.txt"
    reordered.write_text("\n".join(PROMPTS[1::-1]))
    more = evaluated(request_for(prompts=reordered, images_per_prompt=3))
    for prompt, pictures in drawn(more).items():
        assert np.array_equal(pictures[:2], drawn(plain)[prompt])
    other = evaluated(request_for(seed=6))
    assert all((drawn(other)[prompt] != drawn(plain)[prompt]).any() for prompt in PROMPTS)


def test_the_record_says_what_was_compared(publish_rex, request_for, encoders):
    publish_rex()
    prepared = prepare(request_for())
    count = 0

    def one_more():
        nonlocal count
        count += 1

    done = evaluate(prepared, one_more).evaluation
    assert count == prepared.number == 3 * 2 + 4 * 2
    assert [one.text for one in done.prompts] == ["a dog at sea", "a red dog", "dog in a box"]
    assert (done.photos.number, done.look_alikes) == (5, None)
    assert (done.drawing.width, done.drawing.steps, done.drawing.sampler) == (32, STEPS, "ddim")
    assert done.encoders.dino.class_name == "Dinov2Model"
    assert done.encoders.clip.folder == str(encoders["clip"])
    assert done.class_pictures.prompt == "a photo of a dog"
    assert len(set(done.class_pictures.seeds)) == 8


def test_look_alikes_can_be_given_and_a_copy_among_photos_does_not_count(
    publish_rex, request_for, tmp_path
):
    publish_rex()
    photos, gallery = tmp_path / "photos", tmp_path / "gallery"
    shutil.copytree(builtin_folder("mascot"), photos)
    shutil.copy(photos / "00.png", photos / "copy.png")
    gallery.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (200, 180, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((90, 100)).save(gallery / f"{number}.png")
    found = evaluated(request_for(photos=photos, gallery=gallery)).evaluation
    assert (found.photos.number, found.look_alikes.number) == (5, 4)
    assert found.warnings == ["--photos: copy.png shows the same picture as 00.png"]
    # Among the very photos as look-alikes nothing is found first: what is equal counts against it.
    itself = evaluated(request_for(photos=photos, gallery=photos)).evaluation
    assert itself.figures.gallery_rank_1.value == 0


def test_a_folder_can_be_evaluated_wherever_it_is(publish_rex, request_for, tmp_path):
    entry = publish_rex()
    elsewhere = shutil.copytree(entry.folder, tmp_path / "brought")
    prepared = prepare(request_for(model=str(elsewhere), registry=tmp_path / "none"))
    assert (prepared.served.model_id, prepared.served.digest) == ("rex", entry.digest)
    (elsewhere / "unet" / "config.json").write_text("{}")
    with pytest.raises(ApiError, match="rex is damaged"):
        prepare(request_for(model=str(elsewhere)))


def test_a_prompt_that_is_cut_off_is_said(publish_rex, request_for, tmp_path):
    publish_rex()
    file = tmp_path / "long.txt"
    long = " ".join(["a <sks> dog"] * 30)
    file.write_text(f"a <sks> dog\n{long}\n")
    (warning,) = prepare(request_for(prompts=file)).warnings
    assert warning.startswith("1 of 2 prompts have more than the ")
    assert warning.endswith(f' tokens that the model reads, and are cut off: "{long}" is the first')


class RefusesAll:
    def flags(self, picture):
        assert picture.shape == (32, 32, 3)
        return True


def test_what_a_server_would_not_show_is_counted(publish_rex, request_for):
    publish_rex()
    prepared = prepare(request_for())
    strict = replace(prepared, loaded=replace(prepared.loaded, safety=RefusesAll()))
    expected = (
        "the model's safety checker refuses 14 of the pictures; they are measured all the same"
    )
    assert evaluate(strict, lambda: None).evaluation.warnings == [expected]


def test_photos_that_only_the_job_knew_are_asked_for(publish_rex, request_for):
    publish_rex(images="file:photos")
    with pytest.raises(EvaluationError, match=r"^--photos: .* from file:photos, which is not a"):
        prepare(request_for())


@pytest.mark.parametrize("option", ["photos", "gallery"])
def test_a_folder_without_pictures_blames_its_option(publish_rex, request_for, tmp_path, option):
    publish_rex()
    with pytest.raises(EvaluationError, match=f"^--{option}: the folder .* can't be read"):
        prepare(request_for(**{option: tmp_path / "none"}))


def test_what_has_no_subject_is_refused(publish_subject, request_for, registry, serving_base):
    with pytest.raises(EvaluationError, match="miniature is a BaseModel and has no subject"):
        prepare(request_for(model=str(serving_base)))
    publish_subject(registry, "tom")
    with pytest.raises(EvaluationError, match="of tom does not say what its subject is"):
        prepare(request_for(model="tom"))


def test_what_is_no_model_is_refused_with_what_there_is(publish_rex, request_for, tmp_path):
    publish_rex()
    with pytest.raises(ApiError, match='"max" does not exist; there are miniature, rex'):
        prepare(request_for(model="max"))
    with pytest.raises(
        EvaluationError, match=r"has no manifest.json; name the folder of one version"
    ):
        prepare(request_for(model=str(tmp_path)))
