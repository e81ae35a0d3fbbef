"""Tiny models of the real architectures with manifests, and a registry to publish them into."""

import shutil

import numpy as np
import pytest
from PIL import Image

from darkroom_api.artifact import (
    ArtifactKind,
    BaseReference,
    ModelManifest,
    Training,
    content_digest,
)
from darkroom_api.integrity import hash_folder, seal
from darkroom_api.registry import publish, staging_folder
from darkroom_testing.tiny_models import vit_config


def _seal(folder, kind, name, **fields):
    """Writes the manifest of a folder of finished files."""
    files = hash_folder(folder)
    digest = content_digest(files)
    seal(folder, ModelManifest(kind=kind, name=name, files=files, digest=digest, **fields))


@pytest.fixture(scope="session")
def seal_folder():
    """Writes the manifest of a folder: `seal_folder(folder, kind, name)`."""
    return _seal


@pytest.fixture(scope="session")
def serving_base(tmp_path_factory, write_base):
    """A random-init base model called miniature: 32 x 32 pictures, latents of 8 x 8."""
    folder = tmp_path_factory.mktemp("base") / "base"
    write_base(folder, seed=0)
    _seal(folder, ArtifactKind.BASE_MODEL, "miniature")
    return folder


@pytest.fixture(scope="session")
def serving_classifier(tmp_path_factory):
    """A random-init classifier of cats, dogs and cars, 32 x 32 pictures."""
    import torch
    from transformers import ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("classifier") / "classifier"
    torch.manual_seed(0)
    labels = {0: "cat", 1: "dog", 2: "car"}
    config = vit_config(
        id2label=labels,
        label2id={label: number for number, label in labels.items()},
    )
    ViTForImageClassification(config).save_pretrained(folder, safe_serialization=True)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    _seal(folder, ArtifactKind.CLASSIFIER, "tiny-classifier")
    return folder


@pytest.fixture(scope="session")
def publish_subject(serving_base):
    """Publishes a subject into a registry: the base's weights, shifted a little by a number."""

    def build(root, name, shift=1, namespace="default"):
        from safetensors.torch import load_file, save_file

        partial = staging_folder(root, namespace, name)
        shutil.copytree(serving_base, partial)
        weights = partial / "unet" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(weights)
        tensors["conv_out.bias"] += shift
        save_file(tensors, weights, metadata={"format": "pt"})
        (partial / "manifest.json").unlink()
        training = Training(
            spec={},
            instance_prompt="a photo of sks dog",
            class_prompt="a photo of a dog",
            steps=4,
            seed=0,
            created="2026-11-23T12:00:00Z",
            versions={},
        )
        _seal(
            partial,
            ArtifactKind.SUBJECT_MODEL,
            name,
            namespace=namespace,
            training=training,
            base=BaseReference(uri="builtin:miniature", digest="0" * 64),
        )
        return publish(partial, root)

    return build


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A small PNG file."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
