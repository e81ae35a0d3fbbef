"""Bodies that real clients send, as their sources write them, and the real clients themselves, over the app."""

import asyncio
import base64
import io
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest
import yaml
from PIL import Image

from darkroom_sampling.samplers import Sampler
from darkroom_serving.drawing.files import FileFormat, image_bytes, parameters_of
from darkroom_serving.drawing.studio import Studio
from darkroom_serving.engine.one_by_one import DrawRequest
from darkroom_serving.errors import ApiError
from darkroom_serving.models.catalogue import ModelCatalogue
from darkroom_serving.settings import Limits
from darkroom_serving.web.routes import build_app
from darkroom_serving.web.wire import ImageData, ImagesResponse, ModelCard

RECORDED = yaml.safe_load(Path(__file__).with_name("data").joinpath("clients.yaml").read_text())
GENERATIONS = "/v1/images/generations"


class Squares:
    """Draws black squares of any model but nobody, and keeps the requests."""

    def __init__(self):
        self.requests = []

    async def draw(self, request):
        self.requests.append(request)
        if request.model == "nobody":
            raise ApiError(404, 'model: "nobody" does not exist', "model", "model_not_found")
        seeds = range(7, 7 + request.n)
        data = [ImageData(b64_json=_square(request.output_format), seed=seed) for seed in seeds]
        return ImagesResponse(created=0, data=data, warnings=["drawn in black"])

    async def list_models(self):
        return [ModelCard(id="rex", created=0, owned_by="default", digest="0" * 64)]

    async def describe_model(self, model_id):
        return (await self.list_models())[0]

    async def check_ready(self):
        return None


def _square(file_format):
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, format=file_format)
    return base64.b64encode(target.getvalue()).decode()


@pytest.fixture
def backend():
    return Squares()


def send(app, method, path, **request):
    async def sending():
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://rooms:8000") as client:
            return await client.request(method, path, **request)

    return asyncio.run(sending())


@pytest.fixture
def ask(backend):
    app = build_app(backend, Limits())
    return lambda method, path, **request: send(app, method, path, **request)


def post_json(ask, body, content_type="application/json", **headers):
    return ask(
        "POST",
        GENERATIONS,
        content=json.dumps(body),
        headers={"content-type": content_type, **headers},
    )


@pytest.mark.parametrize("recorded", RECORDED, ids=[one["client"] for one in RECORDED])
def test_what_a_client_sends_is_drawn_or_refused_by_name(ask, backend, recorded):
    content_type = recorded.get("content_type", "application/json")
    answer = post_json(ask, recorded["body"], content_type)
    if "refused" in recorded:
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, recorded["refused"])
        return
    assert answer.status_code == 200, answer.text
    (request,) = backend.requests
    assert request.model_dump(include=set(recorded["reads"])) == recorded["reads"]
    assert answer.json()["warnings"] == [*recorded.get("warnings", []), "drawn in black"]
    assert len(answer.json()["data"]) == request.n


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_urls_hold_the_image_in_its_format(ask, file_format):
    body = {"prompt": "a dog", "response_format": "url", "output_format": file_format}
    answer = post_json(ask, body).json()
    (item,) = answer["data"]
    assert item.keys() == {"url", "seed"}
    start, _, content = item["url"].partition(",")
    assert start == f"data:image/{file_format};base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).format == file_format.upper()
    assert answer["output_format"] == file_format


@pytest.fixture(scope="module")
def studio(serving_base, tmp_path_factory):
    registry = tmp_path_factory.mktemp("models")
    return Studio(ModelCatalogue(registry, serving_base), Limits(), max_models=1)


def test_the_parameters_of_an_answer_draw_it_again(studio):
    app = build_app(studio, Limits())
    body = {"prompt": "a dog", "steps": 2, "sampler_name": "Euler", "cfg_scale": 3}
    first = send(app, "POST", GENERATIONS, json=body).json()
    parameters = first["parameters"]
    assert parameters | {"seed": 0, "digest": ""} == {
        "model": "miniature",
        "digest": "",
        "size": "32x32",
        "num_inference_steps": 2,
        "guidance_scale": 3,
        "sampler": "euler",
        "eta": 0,
        "seed": 0,
    }
    assert parameters["seed"] == first["data"][0]["seed"]
    chosen = {name: value for name, value in parameters.items() if name != "digest"}
    again = send(app, "POST", GENERATIONS, json={"prompt": "a dog", **chosen}).json()
    assert again["data"] == first["data"]


@pytest.fixture
def drawn(studio):
    """A picture that compresses, what it was drawn from, and the model that drew it."""
    picture = np.add.outer(np.arange(64), np.arange(48))[..., None] * np.ones(3)
    request = DrawRequest(
        prompt="a dog in a smørrebrød",
        negative_prompt="",
        width=48,
        height=64,
        steps=3,
        guidance_scale=4.0,
        sampler=Sampler.DDIM,
        seed=11,
    )
    return picture.astype(np.uint8), request, studio._catalogue.base()


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_quality_makes_files_smaller_and_each_says_how_it_was_made(drawn, name):
    picture, request, model = drawn
    files = [image_bytes(*drawn, FileFormat(name, quality)) for quality in (0, 50, 100)]
    assert len(files[0]) < len(files[1]) < len(files[2])
    assert files[2] == image_bytes(*drawn, FileFormat(name, 100))
    image = Image.open(io.BytesIO(files[2]))
    assert (image.format, image.size) == (name.upper(), (48, 64))
    assert np.abs(np.asarray(image).astype(int) - picture).mean() < 2
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    text = json.loads(comment.removeprefix(b"ASCII\0\0\0"))
    assert (text["prompt"], text["seed"]) == (request.prompt, "11")
    assert text["digest"] == parameters_of(request, model).digest
