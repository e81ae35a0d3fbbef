"""Encoders are transformers' own models, read from folders; what can't judge is refused before it is loaded."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from darkroom_serving.evaluation.encoders import (
    BATCH,
    ClipEncoder,
    DinoEncoder,
    clip_folder,
    dino_folder,
)
from darkroom_serving.evaluation.errors import EvaluationError
from darkroom_testing.tiny_encoders import write_clip, write_dino

CPU = torch.device("cpu")
WRITE = {"dino": write_dino, "clip": write_clip}
CHECK = {"dino": dino_folder, "clip": clip_folder}
LOAD = {"dino": DinoEncoder, "clip": ClipEncoder}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {name: write(folder / name) for name, write in WRITE.items()}


@pytest.fixture
def own(written, tmp_path):
    """A copy of an encoder's folder to spoil."""
    return lambda name: shutil.copytree(written[name], tmp_path / name)


def pictures(number, size=(48, 40)):
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (number, *size, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


@pytest.mark.parametrize("version", [1, 2])
def test_dino_embeds_by_the_class_token(tmp_path, version):
    from transformers import AutoImageProcessor, AutoModel

    folder = write_dino(tmp_path / "dino", version)
    found = DinoEncoder(dino_folder(folder), CPU).embed(pictures(2))
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(
        pictures(2), return_tensors="pt"
    )
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model(**pixels).last_hidden_state[:, 0].numpy()
    assert found == pytest.approx(expected, abs=1e-5)


def test_clip_embeds_pictures_and_texts_into_one_space(written):
    from transformers import CLIPModel, CLIPProcessor

    encoder = ClipEncoder(clip_folder(written["clip"]), CPU)
    images, texts = encoder.embed(pictures(2)), encoder.embed_texts(["a dog", "a b c"])
    model = CLIPModel.from_pretrained(written["clip"]).eval()
    given = CLIPProcessor.from_pretrained(written["clip"])(
        text=["a dog", "a b c"], images=pictures(2), return_tensors="pt", padding=True
    )
    with torch.inference_mode():
        expected = model(**given)
    for ours, theirs in ((images, expected.image_embeds), (texts, expected.text_embeds)):
        unit = ours / np.linalg.norm(ours, axis=-1, keepdims=True)
        assert unit == pytest.approx(theirs.numpy(), abs=1e-5)


@pytest.mark.parametrize("name", WRITE)
def test_how_many_there_are_changes_no_embedding(written, name):
    encoder = LOAD[name](CHECK[name](written[name]), CPU)
    many = pictures(BATCH + 2)
    together = encoder.embed(many)
    assert together.shape[0] == BATCH + 2
    assert together[-1:] == pytest.approx(encoder.embed(many[-1:]), abs=1e-5)


def test_a_text_that_is_too_long_is_cut_off(written):
    encoder = ClipEncoder(clip_folder(written["clip"]), CPU)
    assert np.isfinite(encoder.embed_texts(["a dog " * 50])).all()


def test_the_digest_is_of_the_content_also_behind_the_links_of_a_cache(written, tmp_path):
    digest = dino_folder(written["dino"]).digest
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for path in written["dino"].iterdir():
        (linked / path.name).symlink_to(path)
    assert dino_folder(linked).digest == digest
    (linked / "preprocessor_config.json").unlink()
    (linked / "preprocessor_config.json").write_text("{}")
    assert dino_folder(linked).digest != digest


def without(name):
    return lambda folder: (folder / name).unlink()


def of_kind(kind):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": kind}))

    return change


@pytest.mark.parametrize("name", WRITE)
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (shutil.rmtree, "has no config.json that names a model; give the folder of a"),
        (without("config.json"), "has no config.json that names a model"),
        (lambda folder: (folder / "config.json").write_text("[]"), "has no config.json that names"),
        (of_kind("bert"), "holds a bert; give the folder of a"),
        (without("preprocessor_config.json"), "has no image processor"),
        (without("model.safetensors"), "has no .safetensors file; save the model again"),
    ],
    ids=["absent", "no-config", "odd-config", "kind", "no-processor", "no-weights"],
)
def test_a_folder_that_can_not_judge_is_refused_with_the_field(own, name, spoil, why):
    folder = own(name)
    spoil(folder)
    with pytest.raises(EvaluationError) as refused:
        CHECK[name](folder)
    assert str(refused.value).startswith(f"--encoders {name}: {folder} {why}")


def test_a_clip_without_a_tokenizer_is_refused(own):
    folder = own("clip")
    for file in ("tokenizer.json", "vocab.json"):
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(EvaluationError, match="has no tokenizer"):
        clip_folder(folder)


def test_each_encoder_is_refused_in_the_place_of_the_other(written):
    with pytest.raises(EvaluationError, match=r"holds a clip; give .* Dinov2Model or ViTModel"):
        dino_folder(written["clip"])
    with pytest.raises(EvaluationError, match=r"holds a dinov2; give .* CLIPModel"):
        clip_folder(written["dino"])


def change_tensors(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("name", WRITE)
def test_missing_tensors_are_named_instead_of_made_up(own, name):
    folder = own(name)
    lost = []

    def lose(tensors):
        lost.extend(sorted(tensors)[:5])
        for one in lost:
            del tensors[one]

    change_tensors(folder, lose)
    with pytest.raises(EvaluationError, match="lacks tensors of a") as refused:
        LOAD[name](CHECK[name](folder), CPU)
    assert lost[0] in str(refused.value)
    assert "and 2 more" in str(refused.value)


@pytest.mark.parametrize("name", WRITE)
def test_weights_that_are_no_numbers_or_no_file_are_refused(own, name):
    folder = own(name)
    change_tensors(
        folder,
        lambda tensors: [
            one.fill_(float("nan")) for one in tensors.values() if one.is_floating_point()
        ],
    )
    encoder = LOAD[name](CHECK[name](folder), CPU)
    with pytest.raises(EvaluationError, match=f"--encoders {name}: its embeddings are not finite"):
        encoder.embed(pictures(1))
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(EvaluationError, match=r"the model in .* can't be loaded"):
        LOAD[name](CHECK[name](folder), CPU)


@pytest.mark.parametrize(
    ("name", "file", "part"),
    [
        ("dino", "preprocessor_config.json", "image processor"),
        ("clip", "preprocessor_config.json", "image processor"),
        ("clip", "tokenizer.json", "tokenizer"),
    ],
)
def test_a_part_that_says_nothing_is_named(own, name, file, part):
    folder = own(name)
    for path in folder.glob("*tokenizer*"):
        if file.startswith("tokenizer") and path.is_file():
            path.write_text("[]")
    (folder / file).write_text("[]")
    with pytest.raises(
        EvaluationError, match=f"--encoders {name}: the {part} in .* can't be loaded"
    ):
        LOAD[name](CHECK[name](folder), CPU)
