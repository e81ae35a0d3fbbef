"""A tiny base model, photos, and jobs over them."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from darkroom_api.artifact import ArtifactKind, ModelManifest, content_digest
from darkroom_api.integrity import hash_folder, seal
from darkroom_api.names import MANIFEST_FILE

os.environ.setdefault("DS_ACCELERATOR", "cpu")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory, write_base):
    """A random-init base model in diffusers' layout: 32 x 32 pictures, latents of 8 x 8."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    write_base(folder, seed=0)
    files = hash_folder(folder)
    manifest = ModelManifest(
        kind=ArtifactKind.BASE_MODEL, name="tiny", files=files, digest=content_digest(files)
    )
    seal(folder, manifest)
    return folder


@pytest.fixture
def base(tiny_base, tmp_path):
    """A copy that a test may change: nobody sealed it."""
    return shutil.copytree(
        tiny_base, tmp_path / "base", ignore=shutil.ignore_patterns(MANIFEST_FILE)
    )


@pytest.fixture(scope="session")
def tiny_photos(tmp_path_factory):
    """Four small PNG pictures."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(4):
        pixels = random.integers(0, 256, (40, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def two_shapes(tmp_path_factory):
    """Five PNG pictures, three wide and two tall ones."""
    folder = tmp_path_factory.mktemp("two-shapes")
    random = np.random.default_rng(0)
    for number in range(5):
        shape = (80, 48, 3) if number % 2 else (48, 80, 3)
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def _merge(base, changes):
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


@pytest.fixture(scope="session")
def make_job(tiny_base, tiny_photos):
    """Builds a job over the tiny base model; keyword arguments are merged into its spec."""
    from darkroom_api.job import PersonalizationJob

    def build(root, name="tiny", **changes):
        spec = {
            "baseModel": {"uri": f"file:{tiny_base}"},
            "subject": {
                "kind": "Animal",
                "identifier": "sks",
                "classNoun": "dog",
                "images": {"uri": f"file:{tiny_photos}"},
            },
            "priorPreservation": {"numImages": 8, "samplingSteps": 2, "guidanceScale": "2.0"},
            "training": {
                "maxSteps": 4,
                "learningRate": "1e-3",
                "resolution": 32,
                "batchSizePerWorker": 2,
            },
            "scale": {"workers": 1, "gpusPerWorker": 0, "precision": "FP32", "zeroStage": 2},
            "checkpoint": {"everySteps": 2},
            "output": {"uri": f"file:{root / 'models'}", "precision": "FP32"},
        }
        job = {
            "apiVersion": "darkroom.dev/v1alpha1",
            "kind": "PersonalizationJob",
            "metadata": {"name": name},
            "spec": _merge(spec, changes),
        }
        return PersonalizationJob.model_validate_json(json.dumps(job))

    return build


@pytest.fixture
def one_thread():
    """Threads cost more than layers of tiny models do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
