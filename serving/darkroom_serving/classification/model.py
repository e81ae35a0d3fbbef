"""Classifies pictures with any model of Hugging Face's that does; the labels are those of its configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from darkroom_serving.models.loading import choose_device
from darkroom_serving.web.wire import Prediction, ScoreFunction

MULTI_LABEL: Final = "multi_label_classification"
"""What a configuration calls labels that do not exclude each other."""


class ImageClassifier:
    """A model of `AutoModelForImageClassification` with its image processor, in float32; none of its code is run."""

    def __init__(self, folder: Path) -> None:
        """Loads a verified folder; raises OSError or ValueError when it holds no such model."""
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self._device = choose_device()
        # Pillow's backend whether torchvision is there or not: the two scale pictures differently.
        self._processor: Any = AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        model: Any = AutoModelForImageClassification.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
        )
        self._model = model.to(self._device).eval()
        self._labels: dict[int, str] = model.config.id2label
        independent = model.config.problem_type == MULTI_LABEL or len(self._labels) == 1
        self._function = ScoreFunction.SIGMOID if independent else ScoreFunction.SOFTMAX

    def prepare(self, image: Image.Image) -> Tensor:
        """Pixels of an RGB picture as the model wants them, (3, H, W)."""
        pixels: Tensor = self._processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    @torch.inference_mode()
    def predict(self, pixels: Sequence[Tensor]) -> Sequence[Tensor]:
        """Logits of all labels for each of B prepared pictures, (labels,)."""
        batch = torch.stack(list(pixels)).to(self._device)
        logits: Tensor = self._model(pixel_values=batch).logits
        return logits.float().cpu().unbind()

    def rank(self, logits: Tensor, function: ScoreFunction | None = None) -> list[Prediction]:
        """All labels of a picture, likeliest first; without a function the configuration's own."""
        ordered = torch.sort(
            _score(logits, function or self._function), descending=True, stable=True
        )
        return [
            Prediction(label=self._labels[number], score=score)
            for number, score in zip(ordered.indices.tolist(), ordered.values.tolist(), strict=True)
        ]


def _score(logits: Tensor, function: ScoreFunction) -> Tensor:
    """Scores of (labels,) logits."""
    if function is ScoreFunction.NONE:
        return logits
    return logits.sigmoid() if function is ScoreFunction.SIGMOID else logits.softmax(dim=-1)
