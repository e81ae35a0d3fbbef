"""A real server on Ray Serve, asked by the real `openai` client, while its registry changes."""

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import psutil
import pytest
from PIL import Image

from darkroom_api.artifact import ArtifactKind
from darkroom_serving.errors import PortInUseError, ServingError
from darkroom_serving.run import serve
from darkroom_serving.settings import ServingSettings

pytestmark = pytest.mark.slow

START_SECONDS = 240
STOP_SECONDS = 60
PROMPT = "a photo of sks dog"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    def __init__(self, registry, base, classifier, log):
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.registry = registry
        script = Path(__file__).with_name("serve_process.py")
        ports = map(str, (self.port, self.metrics_port))
        self.log = log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, script, registry, *ports, base, classifier],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
            env=os.environ | {"http_proxy": "http://127.0.0.1:9"},  # nothing goes there
        )

    def first_line(self):
        with ThreadPoolExecutor(1) as reader:
            return reader.submit(self.process.stdout.readline).result(START_SECONDS)

    def stop(self):
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


def living(processes):
    _, left = psutil.wait_procs(processes, timeout=STOP_SECONDS)
    return [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def server(tmp_path_factory, serving_base, serving_classifier):
    folder = tmp_path_factory.mktemp("server")
    running = Server(folder / "models", serving_base, serving_classifier, folder / "server.log")
    try:
        line = running.first_line()
        assert line == f"ready {running.url} []\n", (folder / "server.log").read_text()
        yield running
    finally:
        running.end()


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def http(server):
    with httpx2.Client(base_url=server.url, timeout=60) as plain:
        yield plain


def generate(client, **fields):
    extra = {"num_inference_steps": 2, "seed": 7, **fields.pop("extra", {})}
    return client.images.generate(prompt=PROMPT, extra_body=extra, **fields)


def png_of(item):
    return base64.b64decode(item.b64_json)


def test_all_of_it_listens_on_loopback_only(server, client):
    generate(client, model="miniature")  # by now each replica has opened its ports
    owner = psutil.Process(server.process.pid)
    mine = {owner.pid, *(child.pid for child in owner.children(recursive=True))}
    listening = [one for one in psutil.net_connections("inet") if one.status == "LISTEN"]
    addresses = {one.laddr for one in listening if one.pid in mine}
    assert {server.port, server.metrics_port} <= {address.port for address in addresses}
    assert [one for one in addresses if one.ip.removeprefix("::ffff:") != "127.0.0.1"] == []


def test_images_are_drawn_and_say_how(client):
    answer = generate(client, n=2, size="64x32", model="miniature")
    images = [Image.open(io.BytesIO(png_of(item))) for item in answer.data]
    assert [image.size for image in images] == [(64, 32)] * 2
    assert [image.text["seed"] for image in images] == ["7", "8"]
    digest = client.models.retrieve("miniature").digest
    assert images[0].text == {
        "prompt": PROMPT,
        "negative_prompt": "",
        "seed": "7",
        "model": "miniature",
        "digest": digest,
        "sampler": "ddim",
        "num_inference_steps": "2",
        "guidance_scale": "4",
        "size": "64x32",
    }


def test_the_same_seed_gives_the_same_bytes_whatever_n_is(client):
    two = generate(client, n=2)
    again = generate(client, extra={"seed": 8})
    assert png_of(two.data[1]) == png_of(again.data[0])
    assert png_of(two.data[0]) != png_of(again.data[0])


def test_requests_at_the_same_time_do_not_mix(client):
    alone = [png_of(generate(client, extra={"seed": seed}).data[0]) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: generate(client, extra={"seed": seed}), range(4)))
    assert [png_of(answer.data[0]) for answer in answers] == alone


def test_a_prompt_that_is_cut_off_is_drawn_with_a_warning(client):
    answer = client.images.generate(prompt="a " * 40, extra_body={"num_inference_steps": 1})
    assert answer.warnings == ["prompt: has 42 tokens, the model reads 24; the rest was cut off"]


def test_a_model_published_later_is_served_and_so_is_its_next_version(
    client, server, publish_subject
):
    assert [model.id for model in client.models.list()] == ["miniature"]
    base = png_of(generate(client).data[0])
    drawn = [base]
    for shift in (1, 2):
        entry = publish_subject(server.registry, "rex", shift=shift)
        found = client.models.retrieve("rex")
        assert (found.digest, found.instance_prompt) == (entry.digest, PROMPT)
        drawn.append(png_of(generate(client, model="rex").data[0]))
    assert len({Image.open(io.BytesIO(png)).tobytes() for png in drawn}) == 3


def test_a_damaged_model_is_refused_and_the_others_are_served(client, server, publish_subject):
    entry = publish_subject(server.registry, "torn", shift=3)
    weights = entry.folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(openai.InternalServerError) as caught:
        generate(client, model="torn")
    assert caught.value.code == "model_damaged"
    assert "vae/diffusion_pytorch_model.safetensors does not match" in caught.value.message
    assert generate(client, model="miniature").data


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "7x9"}, "size"),
        ({"extra": {"num_inference_steps": 0}}, "num_inference_steps"),
        ({"extra": {"seed": 2**64}}, "seed"),
        ({"extra": {"sampler": "eular"}}, "sampler"),
        ({"background": "transparent"}, "background"),
    ],
)
def test_a_wrong_request_is_a_bad_request_that_names_the_field(client, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        generate(client, **fields)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        generate(client, model="nobody")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("studio/nobody")


def test_a_prompt_of_10_megabytes_is_too_large(client):
    with pytest.raises(openai.APIStatusError) as caught:
        client.images.generate(prompt="x" * 10_000_000)
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/nothing", 404, "there is no /v1/nothing; see /docs"),
        (
            "GET",
            "/v1/images/generations",
            405,
            "/v1/images/generations does not take GET; use POST",
        ),
    ],
)
def test_errors_of_routing_have_openais_shape(http, method, path, status, message):
    answer = http.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["message"], error["type"]) == (message, "invalid_request_error")


def test_many_pictures_at_once_are_classified_and_a_bad_one_fails_alone(http, photo):
    contents = [photo.read_bytes()] * 20
    contents[7] = b"not a picture"
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda body: http.post("/v1/classify", content=body), contents))
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200] * 7 + [400] + [200] * 12
    assert answers[7].json()["error"]["param"] == "image"


def test_health_and_documents_are_there(http):
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}
    paths = http.get("/openapi.json").json()["paths"]
    assert {"/v1/images/generations", "/v1/models", "/v1/classify"} <= paths.keys()
    body = paths["/v1/images/generations"]["post"]["requestBody"]["content"]["application/json"]
    assert "euler_a" in body["schema"]["properties"]["sampler"]["enum"]


def test_metrics_go_to_prometheus(client, server):
    generate(client)
    name, text = "ray_darkroom_generation_images_total", ""
    for _ in range(120):  # Ray hands them on every few seconds
        text = httpx2.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
        if name in text:
            break
        time.sleep(0.5)
    lines = [line for line in text.splitlines() if line.startswith(name)]
    assert any('model="miniature"' in line and 'outcome="ok"' in line for line in lines)


def test_an_occupied_port_is_refused_before_anything_starts(server):
    port, children = server.port, psutil.Process().children()
    for settings, option in (
        (ServingSettings(registry=server.registry, port=port), "--port"),
        (
            ServingSettings(registry=server.registry, port=free_port(), metrics_port=port),
            "--metrics-port",
        ),
    ):
        with pytest.raises(PortInUseError, match=rf"{option}: 127\.0\.0\.1:{port} can't be used"):
            serve(settings, print)
    assert psutil.Process().children() == children


def test_a_base_that_nobody_sealed_is_refused_with_the_command_that_seals_it(tmp_path):
    plain = tmp_path / "my model"
    plain.mkdir()
    settings = ServingSettings(registry=tmp_path, port=free_port(), base=plain)
    fix = f"darkroom import '{plain}' my-model, and give --base bases/my-model"
    with pytest.raises(ServingError) as caught:
        serve(settings, print)
    assert str(caught.value) == f"--base: {plain} is not sealed; import it once with: {fix}"
    settings = ServingSettings(registry=tmp_path, port=free_port(), classifier=tmp_path / "absent")
    with pytest.raises(ServingError, match=r"--classifier: there is no folder .*absent; check the"):
        serve(settings, print)


def test_an_adapter_is_refused_as_a_base(tmp_path, seal_folder):
    adapter = tmp_path / "rex"
    adapter.mkdir()
    seal_folder(adapter, ArtifactKind.ADAPTER, "rex")
    settings = ServingSettings(registry=tmp_path / "models", port=free_port(), base=adapter)
    with pytest.raises(ServingError, match=r"--base: .* goes on a base model and is none"):
        serve(settings, print)


def test_a_signal_ends_it_and_leaves_nothing_behind(server):
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert server.stop() == 0
    assert server.process.stdout.readline() == "ended\n"
    assert not living(children)


def test_a_killed_head_ends_it_with_an_error_and_leaves_nothing_behind(
    tmp_path, serving_base, serving_classifier
):
    log = tmp_path / "server.log"
    server = Server(tmp_path / "models", serving_base, serving_classifier, log)
    try:
        assert server.first_line().startswith("ready"), log.read_text()
        children = psutil.Process(server.process.pid).children(recursive=True)
        (head,) = [child for child in children if child.name() == "gcs_server"]
        head.kill()
        assert server.process.wait(STOP_SECONDS) == 1
        assert "Ray's head process was killed; start the server again" in log.read_text()
        assert not living(children)
    finally:
        server.end()
