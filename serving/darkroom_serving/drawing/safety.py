"""The safety checker of models that came with one (arXiv 2210.04610 describes how it judges)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkroom_sampling.pixels import Pixels


class SafetyChecker:
    """Says which pictures must not be shown."""

    def __init__(self, checker: Any, extractor: Any, device: torch.device) -> None:
        """`checker` is diffusers' StableDiffusionSafetyChecker, `extractor` its image processor."""
        self._checker = checker
        self._extractor = extractor
        self._device = device

    def flags(self, picture: Pixels) -> bool:
        """Whether RGB pixels, (H, W, 3), must not be shown."""
        pixels = self._extractor(images=picture, return_tensors="pt").pixel_values
        # It blackens what it flags, in place: it gets a copy.
        _, flagged = self._checker(
            clip_input=pixels.to(self._device), images=picture[None].astype(np.float32)
        )
        return bool(flagged[0])


def load_safety_checker(folder: Path, device: torch.device) -> SafetyChecker | None:
    """The checker in a verified model's folder, in float32; None when there is none."""
    if not (folder / "safety_checker").is_dir():
        return None
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    checker = StableDiffusionSafetyChecker.from_pretrained(
        folder / "safety_checker", use_safetensors=True, local_files_only=True
    )
    extractor = CLIPImageProcessor.from_pretrained(
        folder / "feature_extractor", local_files_only=True
    )
    return SafetyChecker(checker.to(device).eval(), extractor, device)
