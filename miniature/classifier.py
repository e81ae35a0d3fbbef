"""The classifier: a small Vision Transformer over the world's nouns, served at `/v1/classify`."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from miniature.training import to_model, train
from miniature.world import NOUNS, SIZE

BATCH: Final = 64


def new_classifier() -> ViTForImageClassification:
    """An untrained classifier with the nouns as labels."""
    names = dict(enumerate(NOUNS))
    return ViTForImageClassification(
        ViTConfig(
            image_size=SIZE,
            patch_size=8,
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=4,
            num_attention_heads=4,
            id2label=names,
            label2id={name: number for number, name in names.items()},
        )
    )


def labels_of(captions: list[str]) -> Tensor:
    """The noun of each caption, as the classifier's label numbers."""
    numbers = {noun: number for number, noun in enumerate(NOUNS)}
    return torch.tensor([next(numbers[w] for w in c.split() if w in numbers) for c in captions])


def train_classifier(
    pixels: NDArray[np.uint8], captions: list[str], work: Path, seed: int, steps: int
) -> ViTForImageClassification:
    """Trains on a pool of pictures, shifted, mirrored and made noisy."""
    torch.manual_seed(seed)
    labels = labels_of(captions)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng((seed, 2, step))
        chosen = rng.integers(len(pixels), size=BATCH)
        pictures = to_model(np.roll(pixels[chosen], rng.integers(-6, 7, 2), axis=(1, 2)))
        if rng.random() < 0.5:
            pictures = pictures.flip(-1)
        blur = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="bilinear")
        share = float(rng.uniform(0, 1))
        noise = torch.from_numpy(rng.normal(0, 0.1, pictures.shape).astype(np.float32))
        seen = pictures * (1 - share) + blur * share + noise
        return F.cross_entropy(
            model(pixel_values=seen).logits, labels[chosen], label_smoothing=0.05
        )

    model = new_classifier()
    state_file = work / "classifier.pt"
    trained = train(
        model, loss_of, state_file=state_file, steps=steps, muon=4e-3, adam=2e-3, ema=0.99
    )
    assert isinstance(trained, ViTForImageClassification)
    return trained.eval()


@torch.no_grad()
def accuracy(model: ViTForImageClassification, pictures: Tensor, labels: Tensor) -> float:
    """Share of pictures (n x 3 x height x width in -1..1) whose best label is right."""
    best = torch.cat(
        [model(pixel_values=part).logits.argmax(-1) for part in torch.split(pictures, 256)]
    )
    return float((best == labels).float().mean())


def processor() -> ViTImageProcessor:
    """Resizes and scales a picture to what the classifier was trained on."""
    return ViTImageProcessor(
        size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
