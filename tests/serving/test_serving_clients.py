"""Bodies that real clients send, as their sources write them, and the real clients themselves, over the app."""

import asyncio
import base64
import gzip
import io
import json
import threading
import time
import zlib
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
import uvicorn
import yaml
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from darkroom_sampling.samplers import Sampler
from darkroom_serving.drawing.files import FileFormat, image_bytes, parameters_of
from darkroom_serving.drawing.studio import Studio
from darkroom_serving.engine.requests import DrawRequest
from darkroom_serving.errors import ApiError
from darkroom_serving.models.catalogue import ModelCatalogue
from darkroom_serving.settings import Limits
from darkroom_serving.web.routes import build_app
from darkroom_serving.web.wire import ImageData, ImagesResponse, ModelCard, Parameters

CLIENTS = yaml.safe_load(Path(__file__).with_name("data").joinpath("clients.yaml").read_text())
RECORDED, TXT2IMG_RECORDED = CLIENTS["generations"], CLIENTS["txt2img"]
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
        parameters = Parameters(
            model=request.model or "rex",
            digest="0" * 64,
            size=request.size if request.sides else "8x8",
            seed=7,
            **request.model_dump(
                include={"num_inference_steps", "guidance_scale", "sampler", "eta"}
            ),
        )
        warnings = ["drawn in black"]
        return ImagesResponse(created=0, data=data, parameters=parameters, warnings=warnings)

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


def text_to_image(ask, body, path="/models/rex", **headers):
    return ask("POST", path, json=body, headers=headers)


def test_hugging_faces_text_to_image_is_the_pictures_file(ask, backend):
    parameters = {"height": 64, "width": 32, "scheduler": "EulerDiscreteScheduler", "seed": 3}
    body = {"inputs": "a dog", "parameters": parameters, "options": {"wait_for_model": True}}
    answer = text_to_image(ask, body, accept="image/webp,image/*;q=0.8")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
    assert answer.headers["x-darkroom-seed"] == "7"
    assert json.loads(answer.headers["x-darkroom-warnings"]) == ["drawn in black"]
    (request,) = backend.requests
    assert (request.prompt, request.model, request.size) == ("a dog", "rex", "32x64")
    assert (request.sampler, request.seed) == (Sampler.EULER, 3)


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/models/rex", {"parameters": {}}, 400, "inputs: is missing; add it"),
        ("/models/rex", {"inputs": 7}, 400, "inputs: must be a string, not a number"),
        ("/models/rex", {"inputs": "a", "parameters": {"n": 2}}, 400, "n: must be at most 1"),
        ("/models/rex", {"inputs": "a", "parameters": {"prompt": "b"}}, 400, "prompt: is not a"),
        ("/models/rex", {"inputs": "a", "parameters": {"sed": 1}}, 400, "sed: is unknown; did you"),
        ("/models/nobody", {"inputs": "a"}, 404, 'model: "nobody" does not exist'),
    ],
)
def test_hugging_faces_errors_are_one_text(ask, path, body, status, error):
    answer = text_to_image(ask, body, path)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].startswith(error)


@pytest.fixture
def url(backend):
    """The app on a real port, for clients that bring their own HTTP."""
    config = uvicorn.Config(build_app(backend, Limits()), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_the_real_client_of_hugging_face_draws(url, backend):
    client = InferenceClient(model=f"{url}/models/studio/rex", token="none")
    image = client.text_to_image("a dog", width=64, height=64, num_inference_steps=3, seed=5)
    assert image.size == (8, 8)
    (request,) = backend.requests
    assert (request.model, request.size, request.num_inference_steps) == ("studio/rex", "64x64", 3)
    with pytest.raises(HfHubHTTPError) as caught:
        client.text_to_image("a dog", num_inference_steps=999)
    assert caught.value.response.json() == {
        "error": "num_inference_steps: must be at most 200; it is 999: change it"
    }


def test_the_real_client_of_openai_draws_and_is_told_what_is_wrong(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    answer = client.images.generate(prompt="a dog", response_format="url", output_format="webp")
    assert answer.data[0].url.startswith("data:image/webp;base64,")
    assert answer.output_format == "webp"
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a dog", background="transparent")
    assert (caught.value.param, caught.value.type) == ("background", "invalid_request_error")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_is_read(ask, backend, encoding):
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](b'{"prompt": "a dog"}')
    answer = ask("POST", GENERATIONS, content=packed, headers={"content-encoding": encoding})
    assert (answer.status_code, backend.requests[0].prompt) == (200, "a dog")


@pytest.mark.parametrize(
    ("content", "encoding", "status", "message"),
    [
        (gzip.compress(b" " * 50_000_000), "gzip", 413, "is larger than 1 MiB"),
        (gzip.compress(b'{"prompt": "a dog"}')[:-9], "gzip", 400, "the body is cut off"),
        (b'{"prompt": "a dog"}', "gzip", 400, "the body is damaged"),
        (b'{"prompt": "a dog"}', "br", 415, "content-encoding: br is not read; use gzip"),
    ],
)
def test_a_body_that_can_not_be_decompressed_is_refused(ask, content, encoding, status, message):
    answer = ask("POST", GENERATIONS, content=content, headers={"content-encoding": encoding})
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_head_is_get_without_its_body(ask):
    got, head = ask("GET", "/v1/models"), ask("HEAD", "/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert ask("HEAD", "/healthz").status_code == 200
    assert ask("HEAD", GENERATIONS).status_code == 405
    assert ask("HEAD", "/nothing").status_code == 404


def test_options_says_what_a_path_takes(ask):
    answer = ask("OPTIONS", GENERATIONS)
    assert (answer.status_code, answer.headers["allow"]) == (204, "OPTIONS, POST")
    assert ask("OPTIONS", "/v1/models/rex").headers["allow"] == "GET, HEAD, OPTIONS"
    assert ask("OPTIONS", "/nothing").status_code == 404


PAGE = "https://evil.example"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("content_type", [FORM, "text/plain;charset=UTF-8", "multipart/form-data"])
def test_a_form_of_another_origins_page_is_refused(ask, backend, content_type):
    answer = post_json(ask, {"prompt": "a dog"}, content_type, origin=PAGE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert backend.requests == []


def test_the_servers_own_pages_and_programs_may_post(ask):
    assert post_json(ask, {"prompt": "a"}, FORM, origin="http://rooms:8000").status_code == 200
    assert post_json(ask, {"prompt": "a"}, origin="app://desktop").status_code == 200


def test_no_page_is_told_that_it_may_unless_the_setting_names_it(backend):
    asked = {"origin": PAGE, "access-control-request-method": "POST"}
    silent = send(build_app(backend, Limits()), "OPTIONS", GENERATIONS, headers=asked)
    assert "access-control-allow-origin" not in silent.headers
    for allowed in (PAGE, "*"):
        app = build_app(backend, Limits(), [allowed])
        preflight = send(app, "OPTIONS", GENERATIONS, headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (
            200,
            allowed,
        )
        answer = send(app, "POST", GENERATIONS, json={"prompt": "a"}, headers={"origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == allowed
    other = {**asked, "origin": "https://other.example"}
    app = build_app(backend, Limits(), [PAGE])
    assert send(app, "OPTIONS", GENERATIONS, headers=other).status_code == 400


def test_the_document_names_every_status_bound_and_choice(ask):
    document = ask("GET", "/openapi.json").json()
    for path in document["paths"].values():
        for operation in path.values():
            assert "422" not in operation["responses"]
    generation = document["paths"][GENERATIONS]["post"]
    statuses = {"200", "400", "403", "404", "413", "415", "429", "500", "503"}
    assert generation["responses"].keys() == statuses
    refusal = generation["responses"]["400"]["content"]["application/json"]["schema"]
    assert refusal == {"$ref": "#/components/schemas/ErrorBody"}
    fields = generation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert (fields["n"]["minimum"], fields["n"]["maximum"]) == (1, 10)
    assert fields["num_inference_steps"]["maximum"] == 200
    assert fields["prompt"]["maxLength"] == 4000
    assert fields["output_format"]["enum"] == ["png", "jpeg", "webp"]
    assert fields["size"]["pattern"].startswith("^(auto|")
    assert "HTTPValidationError" not in document["components"]["schemas"]


TXT2IMG = "/sdapi/v1/txt2img"


@pytest.mark.parametrize(
    "recorded", TXT2IMG_RECORDED, ids=[one["client"] for one in TXT2IMG_RECORDED]
)
def test_what_a_client_of_automatic1111_sends_is_drawn_or_refused_by_name(ask, backend, recorded):
    answer = ask("POST", TXT2IMG, json=recorded["body"])
    if "refused" in recorded:
        assert (answer.status_code, answer.json()["detail"]) == (400, recorded["refused"])
        assert answer.json().keys() == {"error", "detail", "errors", "body"}
        return
    assert answer.status_code == 200, answer.text
    (request,) = backend.requests
    assert request.model_dump(include=set(recorded["reads"])) == recorded["reads"]
    assert answer.json()["parameters"] == recorded["body"]
    images = [Image.open(io.BytesIO(base64.b64decode(one))) for one in answer.json()["images"]]
    assert [image.format for image in images] == ["PNG"] * request.n


def test_the_info_of_automatic1111_says_how_it_was_drawn(ask):
    body = {"prompt": "a dog", "negative_prompt": "a cat", "steps": 20, "sampler_name": "Euler a"}
    body |= {"width": 64, "height": 32, "cfg_scale": 7, "n_iter": 2}
    info = json.loads(ask("POST", TXT2IMG, json=body).json()["info"])
    assert (info["seed"], info["all_seeds"], info["width"], info["height"]) == (7, [7, 8], 64, 32)
    assert info["warnings"] == ["drawn in black"]
    assert info["infotexts"][1] == (
        "a dog\nNegative prompt: a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 8,"
        " Size: 64x32, Model hash: 0000000000, Model: rex"
    )


def test_automatic1111_lists_models_samplers_and_the_one_that_draws(ask):
    (model,) = ask("GET", "/sdapi/v1/sd-models").json()
    assert (model["title"], model["model_name"], model["hash"]) == ("rex", "rex", "0" * 10)
    assert ask("GET", "/sdapi/v1/options").json() == {"sd_model_checkpoint": "rex"}
    samplers = ask("GET", "/sdapi/v1/samplers").json()
    assert {"name": "Euler a", "aliases": ["euler_a"], "options": {}} in samplers
    assert {sampler for one in samplers for sampler in one["aliases"]} == set(Sampler)


def test_an_unknown_checkpoint_is_not_found(ask):
    body = {"prompt": "a dog", "override_settings": {"sd_model_checkpoint": "nobody"}}
    answer = ask("POST", TXT2IMG, json=body)
    assert (answer.status_code, answer.json()["error"]) == (404, "model_not_found")


@pytest.mark.parametrize("value", ['"\\ud800"', "NaN", "1e999"])
def test_what_an_answer_can_not_repeat_is_refused(ask, value):
    answer = ask("POST", TXT2IMG, content=f'{{"prompt": "a dog", "comments": {value}}}')
    assert (answer.status_code, answer.json()["errors"]) == (
        400,
        "the body is not valid JSON text; send text in UTF-8",
    )
