"""The quality report: how well the miniature reconstructs, draws and recognises, with a contact sheet."""

import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import ViTForImageClassification

from miniature.classifier import accuracy, labels_of
from miniature.training import to_model
from miniature.vae import psnr
from miniature.world import NOUNS, SIZE

STEPS: Final = 25
GUIDANCE: Final = 3.0
IMAGES_PER_NOUN: Final = 24
COLUMNS: Final = 8
LABEL_PIXELS: Final = 14
PROMPTS: Final = (
    *(f"a photo of a {noun}" for noun in NOUNS),
    "a photo of a dog on the beach",
    "a photo of a cat in the snow",
    "a photo of a red car at night",
    "a photo of a flower on blue",
    "a photo of a ball on grass",
    "a photo of a blue bird in the forest",
    "a photo of a house before a brick wall",
    "a photo of a hat under water",
)


def draw(
    pipeline: StableDiffusionPipeline, prompt: str, count: int, seed: int
) -> list[Image.Image]:
    """Pictures of a prompt by DDIM with guidance, from seeds that follow each other."""
    generators = [torch.Generator().manual_seed(seed + number) for number in range(count)]
    answer = pipeline(
        [prompt] * count,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=generators,
    )
    images: list[Image.Image] = answer.images
    return images


def write_report(
    folder: Path,
    pipeline: StableDiffusionPipeline,
    classifier: ViTForImageClassification,
    held_out: Tensor,
    captions: list[str],
) -> dict[str, float]:
    """Measures on held-out pictures (n x 3 x height x width in -1..1) and writes the report's files."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "reconstruction_psnr_db": psnr(pipeline.vae, held_out),
        "classifier_accuracy": accuracy(classifier, held_out, labels_of(captions)),
    }
    for noun in NOUNS:
        drawn = draw(pipeline, f"a photo of a {noun}", IMAGES_PER_NOUN, seed=1000)
        labels = labels_of([noun] * IMAGES_PER_NOUN)
        figures[f"prompt_accuracy_{noun}"] = accuracy(classifier, _tensor(drawn), labels)
    nouns = [figures[f"prompt_accuracy_{noun}"] for noun in NOUNS]
    figures["prompt_accuracy"] = sum(nouns) / len(nouns)
    figures = {name: round(value, 4) for name, value in figures.items()}
    (folder / "report.json").write_text(json.dumps(figures, indent=1) + "\n")
    rows = [(prompt, draw(pipeline, prompt, COLUMNS, seed=0)) for prompt in PROMPTS]
    contact_sheet(rows).save(folder / "contact-sheet.png", optimize=True)
    return figures


def contact_sheet(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Labelled rows of pictures."""
    height = SIZE + LABEL_PIXELS
    sheet = Image.new("RGB", (COLUMNS * SIZE, len(rows) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (label, images) in enumerate(rows):
        pen.text((3, number * height + 1), label, fill="black")
        for column, image in enumerate(images):
            sheet.paste(image, (column * SIZE, number * height + LABEL_PIXELS))
    return sheet


def _tensor(images: list[Image.Image]) -> Tensor:
    return to_model(np.stack([np.asarray(image) for image in images]))
