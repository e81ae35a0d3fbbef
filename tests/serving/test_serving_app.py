"""The application in one process, without Ray's: loading, damaged models, and every error's shape."""

import asyncio
import base64
import inspect
import io
import shutil
import threading
import zlib
from types import SimpleNamespace

import httpx2
import pytest
from PIL import Image

from darkroom_serving import app as app_module
from darkroom_serving.app import Darkroom
from darkroom_serving.classification.deployment import Classifier
from darkroom_serving.drawing import studio as studio_module
from darkroom_serving.settings import Limits, ServingSettings

IMAGES = "/v1/images/generations"
CLASSIFY = "/v1/classify"
QUICK = {"prompt": "a dog", "num_inference_steps": 1}


class LocalHandle:
    """Calls a deployment's methods as its handle does, but in this process."""

    def __init__(self, deployment):
        self._deployment = deployment

    def __getattr__(self, name):
        async def remote(*arguments):
            answer = getattr(self._deployment, name)(*arguments)
            return await answer if inspect.isawaitable(answer) else answer

        return SimpleNamespace(remote=remote)


class Server:
    def __init__(self, registry, base, classifier, **limits):
        settings = ServingSettings(registry=registry, limits=Limits(**limits))
        self._app = Darkroom(settings, base, LocalHandle(classifier)).__serve_build_asgi_app__()

    def ask(self, method, path, **request):
        async def send():
            transport = httpx2.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())

    def wait_until_loaded(self):
        while "base model is still" in (answer := self.ask("GET", "/readyz")).text:
            threading.Event().wait(0.05)
        return answer


@pytest.fixture(scope="module")
def classifier(serving_classifier):
    return Classifier(serving_classifier)


@pytest.fixture(scope="module")
def server(tmp_path_factory, serving_base, classifier):
    started = Server(tmp_path_factory.mktemp("models"), serving_base, classifier)
    assert started.wait_until_loaded().json() == {"status": "ready"}
    return started


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    return answer.json()["error"]


def copy_flipped(source, folder, file):
    """A copy of a model, one bit of a file flipped."""
    shutil.copytree(source, folder)
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)
    return folder


def test_while_the_base_model_loads_a_client_is_told_to_come_back(
    monkeypatch, tmp_path, serving_base, classifier
):
    goes_on = threading.Event()
    load = studio_module.load_served
    monkeypatch.setattr(studio_module, "load_served", lambda *a: goes_on.wait() and load(*a))
    server = Server(tmp_path, serving_base, classifier)
    for answer in (server.ask("GET", "/readyz"), server.ask("POST", IMAGES, json=QUICK)):
        assert error_of(answer, 503)["code"] == "loading"
        assert answer.headers["retry-after"] == "2"
    assert server.ask("GET", "/healthz").status_code == 200
    assert server.ask("GET", "/v1/models").json()["data"][0]["id"] == "miniature"
    goes_on.set()
    assert server.wait_until_loaded().status_code == 200
    assert server.ask("POST", IMAGES, json=QUICK).status_code == 200


def test_while_the_classifier_loads_the_server_is_not_ready(monkeypatch, tmp_path, serving_base):
    monkeypatch.setattr(app_module, "PROBE_SECONDS", 0.01)
    never = SimpleNamespace(check_ready=lambda: asyncio.sleep(600))
    error = error_of(Server(tmp_path, serving_base, never).wait_until_loaded(), 503)
    assert error["message"] == "the classifier is still being loaded; try again"


def test_a_damaged_base_model_is_never_ready_and_says_why(tmp_path, serving_base, classifier):
    base = copy_flipped(serving_base, tmp_path / "base", "tokenizer/vocab.json")
    server = Server(tmp_path / "models", base, classifier)
    for answer in (server.wait_until_loaded(), server.ask("POST", IMAGES, json=QUICK)):
        error = error_of(answer, 500)
        assert error["code"] == "model_damaged"
        assert "tokenizer/vocab.json does not match its digest" in error["message"]
        assert answer.headers["x-should-retry"] == "false"


def test_a_damaged_classifier_is_refused_and_images_are_drawn(
    tmp_path, serving_base, serving_classifier
):
    folder = copy_flipped(serving_classifier, tmp_path / "classifier", "model.safetensors")
    server = Server(tmp_path / "models", serving_base, Classifier(folder))
    for answer in (server.wait_until_loaded(), server.ask("POST", CLASSIFY, content=b"x")):
        error = error_of(answer, 500)
        assert (error["code"], error["type"]) == ("model_damaged", "server_error")
    assert server.ask("POST", IMAGES, json=QUICK).status_code == 200


def test_a_crash_is_logged_and_told_without_its_details(tmp_path, serving_base, caplog):
    def crash(*_):
        raise RuntimeError("secret")

    broken = SimpleNamespace(classify=crash, check_ready=lambda: None)
    server = Server(tmp_path, serving_base, broken)
    server.wait_until_loaded()  # two loads at a time in one process get in each other's way
    answer = server.ask("POST", CLASSIFY, content=b"x")
    assert error_of(answer, 500)["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "secret" in caplog.text


def test_as_many_requests_as_may_wait_already(tmp_path, serving_base, classifier):
    server = Server(tmp_path, serving_base, classifier, max_waiting=0)
    server.wait_until_loaded()
    answer = server.ask("POST", IMAGES, json=QUICK)
    assert error_of(answer, 429)["type"] == "rate_limit_exceeded"
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize("path", [IMAGES, CLASSIFY])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"\\ud800": 1}', b'{"zzz": 1}', b"{}"])
def test_a_body_that_is_no_request_is_refused(server, path, body):
    answer = server.ask("POST", path, content=body, headers={"content-type": "application/json"})
    assert error_of(answer, 400)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/image", 404),
        ("GET", "/v1/models/studio/nobody", 404),
        ("GET", CLASSIFY, 405),
        ("PUT", IMAGES, 405),
        ("DELETE", "/v1/models/miniature", 405),
    ],
)
def test_a_wrong_path_or_method_is_refused(server, method, path, status):
    assert error_of(server.ask(method, path), status)["type"] == "invalid_request_error"


def test_a_body_that_is_too_large_is_refused(server):
    for path, size in ((IMAGES, 10_000_000), (CLASSIFY, (20 << 20) + 1)):
        answer = server.ask("POST", path, content=b" " * size)
        assert error_of(answer, 413)["code"] == "request_too_large"


def png_that_claims(width, height):
    """A valid header of a picture of any size, and hardly any data."""
    header = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0"
    chunks = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    framed = [(len(c) - 4).to_bytes(4) + c + zlib.crc32(c).to_bytes(4) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def picture(image_format="PNG", **options):
    target = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(target, image_format, **options)
    return target.getvalue()


BAD_PICTURES = {
    "is empty": b"",
    "is not a picture that can be read": b"%!PS",
    "is an SVG drawing": b"<svg></svg>",
    "is a PDF": b"%PDF-1.7",
    "is damaged or cut off": picture()[:1000],
    "has many more pixels": png_that_claims(60_000, 60_000),
    "is 9000 x 9000 = 81 megapixels": png_that_claims(9000, 9000),
    "is animated": picture("WEBP", save_all=True, append_images=[Image.new("L", (64, 64))]),
}


@pytest.mark.parametrize("message", BAD_PICTURES)
def test_what_is_no_fit_picture_is_refused(server, message):
    content = BAD_PICTURES[message]
    answers = [server.ask("POST", CLASSIFY, content=content, headers={"content-type": "image/png"})]
    if content:
        body = {"image": base64.b64encode(content).decode()}
        answers.append(server.ask("POST", CLASSIFY, json=body))
    for answer in answers:
        error = error_of(answer, 400)
        assert error["message"].startswith(f"image: {message}")
        assert (error["param"], error["code"]) == ("image", "invalid_image")


def test_a_picture_in_json_that_is_not_base64_is_refused(server):
    answer = server.ask("POST", CLASSIFY, json={"image": "data:image/png;base64,YQ=="})
    assert error_of(answer, 400)["param"] == "image"


def test_a_misspelt_query_is_refused(server, photo):
    answer = server.ask("POST", CLASSIFY, content=photo.read_bytes(), params={"topk": 1})
    assert error_of(answer, 400)["message"] == "topk: is unknown; did you mean top_k?"
