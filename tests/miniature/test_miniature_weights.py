"""What is committed: small, safe, complete, and able to draw and to recognise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from miniature.tokenizer import words
from miniature.world import NOUNS
from PIL import Image
from transformers import CLIPTokenizer, ViTForImageClassification, ViTImageProcessor

from darkroom_api.artifact import ArtifactKind
from darkroom_api.builtin import builtin_folder
from darkroom_api.integrity import verify

MIB = 1 << 20


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(
        builtin_folder("miniature"), use_safetensors=True
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def classifier() -> ViTForImageClassification:
    return ViTForImageClassification.from_pretrained(
        builtin_folder("classifier"), use_safetensors=True
    ).eval()


def recognised(classifier: ViTForImageClassification, images: list[Image.Image]) -> list[str]:
    processor = ViTImageProcessor.from_pretrained(builtin_folder("classifier"))
    with torch.no_grad():
        logits = classifier(**processor(images, return_tensors="pt")).logits
    return [classifier.config.id2label[int(label)] for label in logits.argmax(-1)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("miniature", ArtifactKind.BASE_MODEL), ("classifier", ArtifactKind.CLASSIFIER)],
)
def test_the_manifest_verifies(name, kind):
    assert verify(builtin_folder(name)).kind is kind


def test_the_weights_are_small_and_no_pickle():
    files: list[Path] = [
        file
        for name in ("miniature", "classifier")
        for file in builtin_folder(name).rglob("*")
        if file.is_file()
    ]
    assert sum(file.stat().st_size for file in files) < 25 * MIB
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".txt"}


def test_every_word_of_the_world_is_one_token():
    tokenizer = CLIPTokenizer.from_pretrained(builtin_folder("miniature") / "tokenizer")
    assert {word: len(tokenizer(word).input_ids) - 2 for word in words()} == dict.fromkeys(
        words(), 1
    )
    assert len(tokenizer("zebra").input_ids) > 3


@pytest.mark.parametrize("pictures", [1, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_drawn_nouns_are_recognised(pipeline, classifier, pictures):
    drawn, asked = [], []
    for noun in NOUNS:
        generators = [torch.Generator().manual_seed(seed) for seed in range(pictures)]
        drawn += pipeline(
            [f"a photo of a {noun}"] * pictures,
            num_inference_steps=15,
            guidance_scale=3.0,
            generator=generators,
        ).images
        asked += [noun] * pictures
    right = np.mean([a == b for a, b in zip(recognised(classifier, drawn), asked, strict=True)])
    assert right >= 0.7


def test_the_mascot_is_five_pictures_of_a_dog(classifier):
    pictures = [Image.open(file) for file in sorted(builtin_folder("mascot").glob("*.png"))]
    assert [picture.size for picture in pictures] == [(256, 256)] * 5
