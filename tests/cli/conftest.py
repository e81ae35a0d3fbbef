"""Builds registries whose models are small text files, and plays kubectl."""

import base64
import io
import json
import os
import shlex
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo


@pytest.fixture
def publish_model():
    """Publishes a model of two small files into a registry, as the trainer does with real ones."""
    from darkroom_api.artifact import (
        ArtifactKind,
        BaseReference,
        ModelManifest,
        Training,
        content_digest,
    )
    from darkroom_api.integrity import hash_folder, seal
    from darkroom_api.registry import publish, staging_folder

    def build(root, name, namespace="default", content="weights", **more):
        folder = staging_folder(root, namespace, name)
        folder.mkdir()
        (folder / "unet").mkdir()
        (folder / "unet" / "weights.safetensors").write_text(content)
        (folder / "README.md").write_text("a model")
        files = hash_folder(folder)
        fields = {
            "kind": ArtifactKind.SUBJECT_MODEL,
            "name": name,
            "namespace": namespace,
            "files": files,
            "digest": content_digest(files),
            "base": BaseReference(uri="builtin:miniature", digest="0" * 64),
            "training": Training(
                spec={},
                instance_prompt="a photo of sks dog",
                class_prompt="a photo of a dog",
                steps=150,
                seed=42,
                created="2026-11-24T00:00:00Z",
                versions={},
            ),
        }
        seal(folder, ModelManifest(**fields | more))
        return publish(folder, root)

    return build


class FakeKubectl:
    """What the fake says, and how it was called; `data/cluster/fake_kubectl.py` is the fake."""

    def __init__(self, folder):
        self._folder = folder
        self._answers = []

    def answer(self, call, output="", error=""):
        """Sets what a call prints that begins like this: a recorded file's name, or text."""
        self._answers.insert(0, {"call": call, "output": output, "error": error})
        (self._folder / "answers.json").write_text(json.dumps(self._answers))

    @property
    def calls(self):
        """The calls so far: `{"line", "document"}`."""
        file = self._folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def fake_kubectl(tmp_path, monkeypatch):
    """A fake kubectl on PATH, in front of a real one."""
    folder = tmp_path / "fake-kubectl"
    folder.mkdir()
    script = Path(__file__).parent / "data" / "cluster" / "fake_kubectl.py"
    (folder / "kubectl").write_text(
        f'#!/bin/sh\nexec {shlex.join([sys.executable, "-S", str(script)])} "$@"\n'
    )
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_KUBECTL", str(folder))
    fake = FakeKubectl(folder)
    fake.answer("get --output=json configmap", error="error-no-config-map.txt")
    return fake


@pytest.fixture
def recorded():
    """A recorded job, by its file's name; what is given is laid over it, level by level."""

    def build(name, **changes):
        file = Path(__file__).parent / "data" / "cluster" / f"{name}.json"
        return _over(json.loads(file.read_text()), changes)

    return build


def _over(value, changes):
    if not isinstance(value, dict) or not isinstance(changes, dict):
        return changes
    return value | {key: _over(value.get(key), change) for key, change in changes.items()}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
        monkeypatch.delenv(name)


class SquaresBackend:
    """Draws squares in one colour, behind the server's real routes."""

    async def draw(self, request):
        from darkroom_serving.errors import ApiError
        from darkroom_serving.web.wire import ImageData, ImagesResponse, Parameters

        if request.model not in (None, "rex"):
            raise ApiError(404, f"model: {request.model} does not exist", "model", "no_model")
        seed = 11 if request.seed is None else request.seed
        sides = request.sides or (16, 16)
        seeds = range(seed, seed + request.n)
        images = [ImageData(b64_json=_square(request, sides, one), seed=one) for one in seeds]
        warnings = ["the prompt was cut off"] if len(request.prompt) > 100 else []
        parameters = Parameters(
            model=request.model or "base",
            digest="0" * 64,
            size=f"{sides[0]}x{sides[1]}",
            seed=seed,
            **request.model_dump(
                include={"num_inference_steps", "guidance_scale", "sampler", "eta"}
            ),
        )
        return ImagesResponse(created=0, data=images, parameters=parameters, warnings=warnings)

    async def classify(self, picture, top_k, function=None):
        from darkroom_serving.errors import bad_request
        from darkroom_serving.web.wire import ClassifyResponse, Prediction

        if not picture:
            raise bad_request("image", "is empty (0 bytes)", "use a picture's file")
        scores = {"dog": 0.75, "cat": 0.25}
        predictions = [Prediction(label=label, score=score) for label, score in scores.items()]
        return ClassifyResponse(model="squares", predictions=predictions[:top_k])

    async def list_models(self):
        from darkroom_serving.web.wire import ModelCard

        return [
            ModelCard(id=name, created=0, owned_by="default", digest="0" * 64)
            for name in ("base", "rex")
        ]

    async def check_ready(self):
        return None


def _square(request, sides, seed):
    """With the text that the real server writes as well (`darkroom_serving.drawing.files`)."""
    info = PngInfo()
    for key, value in (("prompt", request.prompt), ("seed", str(seed)), ("model", request.model)):
        info.add_text(key, value or "base")
    buffer = io.BytesIO()
    Image.new("RGB", sides, (seed % 256, 0, 0)).save(buffer, format="PNG", pnginfo=info)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="session")
def server_url():
    """A server with the real routes, over squares."""
    import uvicorn

    from darkroom_serving.settings import Limits
    from darkroom_serving.web.routes import build_app

    app = build_app(SquaresBackend(), Limits())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
