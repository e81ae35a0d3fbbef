"""Classification: bodies as clients send them, scores, and any folder that Hugging Face's libraries write."""

import asyncio
import base64
import json
import os
import shutil
from urllib.parse import urlencode

import httpx2
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from PIL import Image

from darkroom_api.integrity import verify
from darkroom_api.pictures.decoding import decode_picture
from darkroom_serving.classification.deployment import Classifier
from darkroom_serving.classification.model import ImageClassifier
from darkroom_serving.classification.sealing import seal_classifier
from darkroom_serving.errors import ServingError, install_handlers
from darkroom_serving.web.classification import add_classify
from darkroom_serving.web.classify_body import MAX_PICTURES, decode_base64
from darkroom_serving.web.wire import ScoreFunction

FORM = "application/x-www-form-urlencoded"


class Alone(Classifier):
    """Without batches, which take a replica of Ray's."""

    async def _predict(self, pixels):
        return self._usable().predict([pixels])[0]


@pytest.fixture(scope="module")
def model(serving_classifier):
    return ImageClassifier(serving_classifier)


@pytest.fixture(scope="module")
def ask(serving_classifier):
    app = FastAPI()
    install_handlers(app)
    add_classify(app, Alone(serving_classifier))

    def post(**request):
        async def send():
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post("/v1/classify", **request)

        return asyncio.run(send())

    return post


@pytest.fixture(scope="module")
def encoded(photo):
    return base64.b64encode(photo.read_bytes()).decode()


@pytest.fixture(scope="module")
def expected(ask, photo):
    return ask(content=photo.read_bytes(), headers={"content-type": "image/png"}).json()


def error_of(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


@pytest.mark.parametrize("content_type", ["image/heic", "application/octet-stream", FORM, None])
def test_a_picture_is_read_whatever_its_content_type_says(ask, photo, expected, content_type):
    headers = {"content-type": content_type} if content_type else {}
    assert ask(content=photo.read_bytes(), headers=headers).json() == expected


def test_labels_are_the_configurations_likeliest_first(expected):
    scores = [item["score"] for item in expected["predictions"]]
    assert {item["label"] for item in expected["predictions"]} == {"cat", "dog", "car"}
    assert expected["model"] == "tiny-classifier"
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)


@pytest.mark.parametrize("field", ["image", "file", "inputs"])
def test_a_picture_in_a_multipart_form_is_read(ask, photo, encoded, expected, field):
    as_file = ask(files={field: ("dog.png", photo.read_bytes())}, data={"top_k": "1"})
    assert as_file.json()["predictions"] == expected["predictions"][:1]
    assert ask(files={field: (None, encoded)}).json() == expected


def test_several_files_of_a_form_are_answered_with_a_list(ask, photo, expected):
    files = [("image", ("a.png", photo.read_bytes())), ("image", ("b.png", photo.read_bytes()))]
    answers = ask(files=files).json()
    assert [answer["model"] for answer in answers] == ["tiny-classifier"] * 2


def test_base64_in_a_plain_form_is_read(ask, encoded, expected):
    for body in (urlencode({"image": encoded}), f"image={encoded}"):
        answer = ask(content=body, headers={"content-type": FORM})
        assert answer.json() == expected


@pytest.mark.parametrize("field", ["image", "inputs"])
def test_json_is_read_with_one_picture_or_a_list(ask, encoded, expected, field):
    assert ask(json={field: encoded}).json() == expected
    (answer,) = ask(json={field: [encoded], "top_k": 2}).json()
    assert answer["predictions"] == expected["predictions"][:2]


def test_hugging_faces_parameters_are_taken(ask, encoded, expected):
    parameters = {"top_k": 1, "function_to_apply": "sigmoid"}
    answer = ask(json={"inputs": encoded, "parameters": parameters}).json()
    assert len(answer["predictions"]) == 1
    raw = ask(json={"inputs": encoded, "parameters": {"function_to_apply": "none"}}).json()
    logit = raw["predictions"][0]["score"]
    assert answer["predictions"][0]["score"] == pytest.approx(1 / (1 + np.exp(-logit)))


def test_base64_is_read_in_every_form():
    content = bytes(range(256)) + b"\xff\xfe"
    plain = base64.b64encode(content).decode()
    lines = base64.encodebytes(content).decode()
    safe = base64.urlsafe_b64encode(content).decode()
    for text in (plain, lines, safe, safe.rstrip("="), f"data:image/png;base64,{plain}"):
        assert decode_base64(text, "image") == content


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"image": "?"}, "image: is not base64; encode the picture's file"),
        ({"image": "YWJjZ"}, "image: is not base64"),
        ({"image": "http://127.0.0.1/a.png"}, "image: is a URL, and the server opens none; send"),
        ({"inputs": "file:///etc/hostname"}, "inputs: is a URL, and the server opens none"),
        ({"image": "/etc/hostname"}, "image: is not base64"),
        ({"image": "aG9zdA=="}, "image: is not a picture"),
        ({"image": ""}, "image: is empty; fill it"),
        ({"top_k": 1}, "image: is missing; add it"),
        ({"image": []}, "image: is missing; add it"),
        ({"image": 5}, "image: must be a string, not a number"),
        ({"image": "YQ==", "inputs": "YQ=="}, "inputs: is another name of image"),
        ({"image": ["YQ=="] * (MAX_PICTURES + 1)}, "image: has 17 pictures; send at most 16"),
        ({"imgae": "YQ=="}, "imgae: is unknown; did you mean image?"),
        ({"image": "YQ==", "topk": 1}, "topk: is unknown; did you mean top_k?"),
        ({"image": "YQ==", "top_k": 0}, "top_k: must be at least 1; it is 0: change it"),
    ],
)
def test_a_wrong_body_is_refused_and_says_which_field(ask, body, message):
    assert error_of(ask(json=body)).startswith(message)


def test_a_wrong_form_is_refused(ask, photo):
    picture = {"image": photo.read_bytes()}
    assert "pcture: is unknown" in error_of(ask(files={"pcture": b"x"}))
    assert error_of(ask(files=picture, data={"top_k": "no"})).startswith('top_k: "no" is not')
    assert "image: is missing" in error_of(ask(files={"top_k": (None, "3")}))
    headers = {"content-type": "multipart/form-data"}
    assert "has no boundary" in error_of(ask(content=b"x", headers=headers))
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert "has no end" in error_of(ask(content=b"--x\r\n\r\nabc", headers=headers))


def test_a_wrong_query_or_content_type_is_refused(ask, photo):
    for text in ("-1", "0", "1.5", "", "٣"):
        answer = ask(content=photo.read_bytes(), params={"top_k": text})
        assert error_of(answer).startswith(f'top_k: "{text}" is not a number of labels; write 1')
    answer = ask(content=photo.read_bytes(), params={"function_to_apply": "tanh"})
    assert error_of(answer) == 'function_to_apply: "tanh" is unknown; use softmax, sigmoid, none'
    answer = ask(content=json.dumps({"image": "YQ=="}), headers={"content-type": "text/plain"})
    assert error_of(answer, 415).startswith("content-type: text/plain is not read")


def test_scores_in_a_mixed_batch_are_those_alone(model):
    generator = np.random.default_rng(0)
    images = [
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in ((20, 30), (64, 64), (300, 40), (33, 1))
    ]
    prepared = [model.prepare(image) for image in images]
    for alone, together in zip(prepared, model.predict(prepared), strict=True):
        (logits,) = model.predict([alone])
        torch.testing.assert_close(together, logits, atol=1e-5, rtol=0)
        assert model.rank(together)[0].score == pytest.approx(model.rank(logits)[0].score, abs=1e-5)


def test_scores_are_those_of_transformers_with_pillows_processor(model, photo, serving_classifier):
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    image = decode_picture(photo.read_bytes()).image
    inputs = ViTImageProcessorPil.from_pretrained(serving_classifier)(image, return_tensors="pt")
    with torch.no_grad():
        wanted = ViTForImageClassification.from_pretrained(serving_classifier)(**inputs).logits[0]
    (logits,) = model.predict([model.prepare(image)])
    torch.testing.assert_close(logits, wanted, atol=1e-6, rtol=0)
    assert [one.score for one in model.rank(logits, ScoreFunction.NONE)] == pytest.approx(
        sorted(wanted.tolist(), reverse=True)
    )


@pytest.fixture(scope="module")
def plain_resnet(tmp_path_factory):
    """A folder as `save_pretrained` writes it, of another architecture."""
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

    folder = tmp_path_factory.mktemp("plain") / "my pets"
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label={0: "cat", 1: "dog"},
        label2id={"cat": 0, "dog": 1},
    )
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_plain_folder_of_another_architecture_is_sealed_in_the_cache_and_classifies(
    plain_resnet, tmp_path, photo
):
    before = contents(plain_resnet)
    sealed = seal_classifier(plain_resnet, tmp_path / "cache")
    assert contents(plain_resnet) == before
    assert verify(sealed).name == "my-pets"
    assert seal_classifier(plain_resnet, tmp_path / "cache") == sealed
    assert [path.name for path in sealed.parent.iterdir()] == [sealed.name]
    answer = asyncio.run(Alone(sealed).classify(photo.read_bytes(), 5))
    assert answer.model == "my-pets"
    assert {one.label for one in answer.predictions} == {"cat", "dog"}


def test_a_damaged_copy_is_made_again(plain_resnet, tmp_path):
    sealed = seal_classifier(plain_resnet, tmp_path)
    (sealed / "config.json").write_text("{}")
    assert verify(seal_classifier(plain_resnet, tmp_path)).name == "my-pets"


def test_a_snapshot_of_a_hugging_face_cache_is_sealed(plain_resnet, tmp_path):
    snapshot, blobs = tmp_path / "snapshots" / "0abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(plain_resnet, blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert verify(seal_classifier(snapshot, tmp_path / "cache"))


def only_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def own_code(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForImageClassification": "modeling.Model"}
    (folder / "config.json").write_text(json.dumps(config))


def link_out(folder):
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def shard_outside(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../elsewhere"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pipe(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (only_a_pickle, "of its weights there is only pytorch_model.bin, a pickle, which can run"),
        (own_code, "config.json has auto_map: it wants Python files"),
        (link_out, "model.safetensors is a symbolic link that leads out of it; copy the model"),
        (shard_outside, "model.safetensors.index.json names '../elsewhere'"),
        (pipe, "model.safetensors is no regular file"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "it has no preprocessor"),
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json names no image"),
        (lambda folder: (folder / "config.json").write_text("["), "config.json is not a JSON"),
    ],
)
def test_a_hostile_folder_is_refused_by_name(plain_resnet, tmp_path, spoil, message):
    folder = tmp_path / "model"
    shutil.copytree(plain_resnet, folder)
    spoil(folder)
    with pytest.raises(ServingError) as caught:
        seal_classifier(folder, tmp_path / "cache")
    assert str(caught.value).startswith(f"--classifier: {folder}: {message}")
    assert not (tmp_path / "cache").exists()
