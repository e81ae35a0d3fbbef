"""Drawing in a thread: who leaves stops it, the seeds hold, and metrics say what became of it."""

import asyncio
import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image
from ray.serve import metrics as serve_metrics

from darkroom_api.artifact import ArtifactKind
from darkroom_serving.drawing.studio import Studio
from darkroom_serving.engine.requests import StoppedError
from darkroom_serving.errors import ApiError
from darkroom_serving.metrics import ClassificationMetrics, GenerationMetrics
from darkroom_serving.models.catalogue import ModelCatalogue
from darkroom_serving.settings import Limits
from darkroom_serving.web.wire import ImagesRequest
from darkroom_testing.tiny_families import write_z_image


class PatientEngine:
    """Draws a black picture when it is allowed to, unless it is stopped before."""

    def __init__(self):
        self.started, self.allowed, self.was_stopped = (threading.Event() for _ in range(3))

    def draw(self, model, requests, stopped):
        self.started.set()
        while not self.allowed.wait(0.01):
            if stopped():
                self.was_stopped.set()
                raise StoppedError
        return [np.zeros((one.height, one.width, 3), np.uint8) for one in requests]


@pytest.fixture
def engine():
    return PatientEngine()


@pytest.fixture
def studio_of(tmp_path, engine):
    """A studio with the base model in a folder."""

    def build(folder):
        catalogue = ModelCatalogue(tmp_path / "models", folder)
        return Studio(catalogue, Limits(max_waiting=1), max_models=1, engine=engine)

    return build


@pytest.fixture
def studio(studio_of, serving_base):
    return studio_of(serving_base)


@pytest.fixture
def counted(monkeypatch):
    """What counters counted, by name: tags and amounts."""
    found = {}

    def count(counter, value=1.0, tags=None):
        found.setdefault(counter.info["name"], []).append((tags, value))

    monkeypatch.setattr(serve_metrics.Counter, "inc", count)
    return found


def request_of(**fields):
    return ImagesRequest(prompt="a dog", num_inference_steps=1, **fields)


def test_a_client_that_leaves_stops_its_drawing_and_makes_room(studio, engine, counted):
    async def leave_and_come_back():
        task = asyncio.create_task(studio.draw(request_of()))
        await asyncio.to_thread(engine.started.wait)
        with pytest.raises(ApiError, match="1 request in the queue already"):
            await studio.draw(request_of())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(engine.was_stopped.wait, 60)
        engine.allowed.set()
        return await studio.draw(request_of(n=2))

    assert len(asyncio.run(leave_and_come_back()).data) == 2
    tags = {"model": "miniature", "sampler": "ddim"}
    assert counted["darkroom_generation_images_total"] == [
        ({**tags, "outcome": "cancelled"}, 1),
        ({**tags, "outcome": "ok"}, 2),
    ]
    assert counted["darkroom_model_loads_total"] == [({"model": "miniature", "outcome": "ok"}, 1)]


def test_no_metric_holds_what_a_user_wrote(studio, counted):
    with pytest.raises(ApiError):
        asyncio.run(studio.draw(request_of(model="secret")))
    assert counted["darkroom_generation_images_total"] == [
        ({"model": "unknown", "sampler": "ddim", "outcome": "model_not_found"}, 1)
    ]


def test_a_sampler_that_nobody_chose_is_counted_as_the_one_that_drew(
    tmp_path, studio_of, seal_folder, engine, counted
):
    write_z_image(tmp_path / "flows", seed=0)
    seal_folder(tmp_path / "flows", ArtifactKind.BASE_MODEL, "flows")
    engine.allowed.set()
    asyncio.run(studio_of(tmp_path / "flows").draw(request_of()))
    assert counted["darkroom_generation_images_total"] == [
        ({"model": "flows", "sampler": "euler", "outcome": "ok"}, 1)
    ]


def test_the_names_of_metrics_are_a_promise():
    declared = vars(GenerationMetrics()) | vars(ClassificationMetrics())
    assert sorted(metric.info["name"] for metric in declared.values()) == [
        "darkroom_classification_batch_size",
        "darkroom_classifications_total",
        "darkroom_generation_images_total",
        "darkroom_generation_seconds",
        "darkroom_model_load_seconds",
        "darkroom_model_loads_total",
    ]


def test_the_text_of_a_picture_says_all_it_takes_to_draw_it_again(studio, engine):
    engine.allowed.set()
    fields = {
        "guidance_scale": 3.123456789,
        "seed": 2**63 - 1,
        "negative_prompt": "çá, 猫",
        "eta": 0.25,
    }
    (item,) = asyncio.run(studio.draw(request_of(**fields))).data
    text = Image.open(io.BytesIO(base64.b64decode(item.b64_json))).text
    assert text.items() >= {name: str(value) for name, value in fields.items()}.items()
