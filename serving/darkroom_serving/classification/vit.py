"""Classifies pictures with a vision transformer; the labels are those of its own configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from darkroom_serving.models.loading import choose_device
from darkroom_serving.web.wire import Prediction


class VitClassifier:
    """A `ViTForImageClassification` with its image processor, in float32."""

    def __init__(self, folder: Path) -> None:
        """Loads a verified folder; raises OSError or ValueError when it holds no such model."""
        from transformers import ViTForImageClassification, ViTImageProcessor

        self._device = choose_device()
        self._processor: Any = ViTImageProcessor.from_pretrained(folder, local_files_only=True)
        model: Any = ViTForImageClassification.from_pretrained(
            folder, use_safetensors=True, local_files_only=True
        )
        self._model = model.to(self._device).eval()
        self._labels: dict[int, str] = model.config.id2label

    def prepare(self, image: Image.Image) -> Tensor:
        """Pixels of an RGB picture as the model wants them, (3, H, W)."""
        pixels: Tensor = self._processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    @torch.inference_mode()
    def predict(self, pixels: Sequence[Tensor]) -> list[list[Prediction]]:
        """All labels of each of B prepared pictures, likeliest first."""
        batch = torch.stack(list(pixels)).to(self._device)
        scores = torch.softmax(self._model(pixel_values=batch).logits.float(), dim=-1)
        ordered = torch.sort(scores, descending=True, stable=True)
        return [
            [
                Prediction(label=self._labels[number], score=score)
                for number, score in zip(numbers, values, strict=True)
            ]
            for numbers, values in zip(
                ordered.indices.tolist(), ordered.values.tolist(), strict=True
            )
        ]
