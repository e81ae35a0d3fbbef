"""The examples as a user runs them: the real command, real Ray, the miniature, pictures over HTTP."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDIMScheduler, StableDiffusionPipeline
from openai import OpenAI
from PIL import Image

from darkroom_api import registry
from darkroom_testing.foreground import foreground

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples"
DARKROOM = [sys.executable, "-m", "darkroom"]

pytestmark = pytest.mark.slow


def environment(folder):
    """`pvc://models` of the examples is a folder of the test."""
    return os.environ | {"DARKROOM_VOLUMES": str(folder), "DARKROOM_WORK_DIR": str(folder / "work")}


def darkroom(folder, *arguments):
    return subprocess.run(
        [*DARKROOM, *map(str, arguments)],
        env=environment(folder),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )


def train(folder, job):
    """Trains a job file; the objects that `--json` printed."""
    done = darkroom(folder, "train", job, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def mascot(tmp_path_factory):
    """Example 01, trained: its folder and what the command printed."""
    folder = tmp_path_factory.mktemp("mascot")
    return folder, train(folder, EXAMPLES / "01-mascot.yaml")


@contextlib.contextmanager
def serving(folder, port=8765):
    with subprocess.Popen(
        [*DARKROOM, "serve", "--registry", str(folder / "models"), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=CHECKOUT,
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/readyz", server)
            yield url
        finally:
            server.terminate()


def wait_for(url, server):
    for _ in range(600):
        assert server.poll() is None, server.stdout.read().decode()
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.5)
    raise AssertionError(f"{url} did not answer")


def teal(png):
    """Share of pixels in the mascot's colour."""
    rgb = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.int32)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return float(((green - red > 40) & (blue - red > 30) & (abs(green - blue) < 70)).mean())


def test_the_first_example_says_what_it_does_and_publishes(mascot):
    folder, events = mascot
    plan, *progress, result = events
    assert plan["event"] == "plan"
    assert plan["class_images_to_make"] == plan["class_images"] > 0
    phases = list(dict.fromkeys(event["phase"] for event in progress))
    assert phases[-1] == "Finished"
    assert "Validating" in phases
    assert result["model"] == "mascot"
    assert (
        registry.load_verified(registry.find(folder / "models", "mascot")).digest
        == result["digest"]
    )


def test_the_personalised_model_draws_its_subject_over_http(mascot):
    import base64

    folder, _ = mascot
    with serving(folder) as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
        assert [model.id for model in client.models.list()] == ["miniature", "mascot"]

        def draw(model, prompt):
            answer = client.images.generate(
                model=model,
                prompt=prompt,
                n=6,
                size="64x64",
                extra_body={"seed": 1, "guidance_scale": 3.0, "num_inference_steps": 15},
            )
            return [base64.b64decode(image.b64_json) for image in answer.data]

        # Not the photos' own words: how soon those bring the subject differs between processors.
        prompt = "a photo of sks dog in the snow"
        before = np.mean([teal(png) for png in draw("miniature", prompt)])
        after = np.mean([teal(png) for png in draw("mascot", prompt)])
        kept = np.mean([teal(png) for png in draw("mascot", "a photo of a dog in the snow")])
        assert after > before + 0.05
        assert after > kept + 0.05

        out = folder / "dog.png"
        arguments = ("--model", "mascot", "--output", out, "--seed", 1, "--url", url)
        done = darkroom(folder, "generate", prompt, *arguments)
        assert done.returncode == 0, done.stderr
        picture = Image.open(out)
        assert (picture.text["prompt"], picture.text["model"]) == (prompt, "mascot")
        done = darkroom(folder, "classify", out, "--url", url, "--json")
        assert done.returncode == 0, done.stderr
        assert "dog" in done.stdout


def shortened(folder):
    """Example 02 with few class images and steps: all that it does, for a likeness that nobody judges."""
    job = yaml.safe_load((EXAMPLES / "02-photos.yaml").read_text())
    spec = job["spec"]
    spec["subject"]["images"]["uri"] = f"file:{EXAMPLES / 'photos' / 'dog'}"
    spec["priorPreservation"] |= {"numImages": 4, "samplingSteps": 4}
    spec["training"] |= {"maxSteps": 4}
    spec["checkpoint"] |= {"everySteps": 2}
    spec["validation"] |= {"everySteps": 4}
    (folder / "job.yaml").write_text(json.dumps(job))
    return folder / "job.yaml"


def as_it_is(folder):
    return EXAMPLES / "02-photos.yaml"


@pytest.mark.parametrize("job", [shortened, pytest.param(as_it_is, marks=pytest.mark.exhaustive)])
def test_real_photographs_become_a_model_that_plain_diffusers_loads(tmp_path, job):
    events = train(tmp_path, job(tmp_path))
    assert len(events[0]["photos"]) == 5
    folder = Path(events[-1]["folder"])
    pipeline = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    assert pipeline.unet.config.sample_size == 16
    assert (folder / "README.md").exists()
    assert (folder / "contact-sheet.png").exists()


def few_steps(folder):
    """Example 03 with few steps: an adapter that has learnt little, and is one."""
    job = yaml.safe_load((EXAMPLES / "03-lora.yaml").read_text())
    job["spec"]["training"] |= {"maxSteps": 20}
    job["spec"]["checkpoint"] |= {"everySteps": 10}
    (folder / "job.yaml").write_text(json.dumps(job))
    return folder / "job.yaml"


@pytest.mark.exhaustive  # the server's tests draw with adapters in every run, the resume tests train one
def test_an_adapter_is_served_as_plain_diffusers_draws_it(tmp_path):
    events = train(tmp_path, few_steps(tmp_path))
    plan = events[0]
    assert (plan["method"], plan["class_images"]) == ("LoRA", 0)
    folder = Path(events[-1]["folder"])
    weights = {path.name: path.stat().st_size for path in folder.glob("**/*.safetensors")}
    assert set(weights) == {"pytorch_lora_weights.safetensors", "kohya_lora_weights.safetensors"}
    assert max(weights.values()) < 1_000_000

    prompt = "a photo of sks dog"
    with serving(tmp_path) as url:
        arguments = ("--model", "mascot-lora", "--seed", 3, "--steps", 4, "--guidance-scale", 2)
        drawn = tmp_path / "dog.png"
        done = darkroom(tmp_path, "generate", prompt, "--output", drawn, *arguments, "--url", url)
        assert done.returncode == 0, done.stderr
    served = np.asarray(Image.open(drawn), dtype=np.int32)

    pictures = []
    for name in (None, *weights):
        pipeline = StableDiffusionPipeline.from_pretrained(
            CHECKOUT / "miniature" / "base", use_safetensors=True
        )
        if name is not None:
            pipeline.load_lora_weights(folder, weight_name=name)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        generator = torch.Generator().manual_seed(3)
        (picture,) = pipeline(
            prompt, num_inference_steps=4, guidance_scale=2.0, generator=generator
        ).images
        pictures.append(np.asarray(picture, dtype=np.int32))
    base, *adapted = pictures
    assert all(np.abs(picture - served).max() <= 2 for picture in adapted)
    assert np.abs(base - served).max() > 10


@pytest.fixture
def short_job(tmp_path):
    """Example 01 with few steps, and a folder to run it in."""

    def build(name, steps=14):
        folder = tmp_path / name
        folder.mkdir()
        job = yaml.safe_load((EXAMPLES / "01-mascot.yaml").read_text())
        del job["spec"]["validation"]
        job["spec"]["priorPreservation"] |= {"numImages": 8, "samplingSteps": 4}
        job["spec"]["training"] |= {"maxSteps": steps, "batchSizePerWorker": 2}
        job["spec"]["checkpoint"] = {"everySteps": 3, "keep": 2}
        (folder / "job.yaml").write_text(json.dumps(job))
        return folder

    return build


def started(folder):
    return subprocess.Popen(
        [*DARKROOM, "train", str(folder / "job.yaml"), "--json"],
        env=environment(folder),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=foreground,
    )


def read_until_step(process, step):
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["step"] >= step:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.exhaustive  # the resume tests kill workers in every run
def test_a_killed_training_goes_on_to_the_same_bytes(short_job):
    undisturbed, killed = short_job("undisturbed"), short_job("killed")
    whole = train(undisturbed, undisturbed / "job.yaml")[-1]
    with started(killed) as process:
        read_until_step(process, 5)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (killed / "models" / "default" / "mascot" / "latest").exists()
    resumed = train(killed, killed / "job.yaml")[-1]
    assert resumed["resumed_from"] >= 3
    assert resumed["digest"] == whole["digest"]


@pytest.mark.exhaustive  # the trainer's tests interrupt a smaller training in every run
def test_ctrl_c_saves_says_how_to_go_on_and_exits_with_130(short_job):
    folder = short_job("interrupted", steps=10_000)
    with started(folder) as process:
        read_until_step(process, 2)
        os.killpg(process.pid, signal.SIGINT)  # to all of them, as a terminal does
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    result = json.loads(output.splitlines()[-1])
    assert (result["status"], result["stop_signal"]) == ("Interrupted", "SIGINT")
    resumed = darkroom(folder, "train", folder / "job.yaml", "--dry-run", "--json")
    assert json.loads(resumed.stdout.splitlines()[0])["resumed_from"] == result["steps"]
