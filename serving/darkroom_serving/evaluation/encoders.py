"""Encoders of pictures and texts, from folders on this machine: their kind is checked before anything is loaded."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom_api.artifact import content_digest
from darkroom_api.integrity import hash_file
from darkroom_api.words import printable
from darkroom_serving.evaluation.errors import EvaluationError
from darkroom_serving.evaluation.metrics import Embeddings

BATCH: Final = 16
"""Pictures or texts that go through an encoder together."""

DINO_CLASSES: Final = {"dinov2": "Dinov2Model", "vit": "ViTModel"}
"""The classes of transformers that embed pictures by their class token, by `model_type`."""

CLIP_CLASSES: Final = {"clip": "CLIPModel"}

IMAGE_PROCESSOR: Final = "preprocessor_config.json"
TOKENIZER_FILES: Final = ("tokenizer.json", "vocab.json")
"""Either will do."""

NAMED: Final = 3
"""Most tensors that an error names."""


class PictureEncoder(Protocol):
    """What embeds pictures."""

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Embeddings of N >= 1 RGB pictures, (N, D)."""
        ...


class TextEncoder(PictureEncoder, Protocol):
    """What embeds pictures and texts into one space."""

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings of N >= 1 texts, (N, D); what is too long is cut off."""
        ...


@dataclass(frozen=True)
class EncoderFolder:
    """A folder that holds what was asked for."""

    field: str
    """What errors call it."""

    path: Path
    class_name: str
    """In transformers."""

    digest: str
    """Sha256 over the names, sizes and digests of its files: scores of two encoders are not to be compared."""


def dino_folder(path: Path) -> EncoderFolder:
    """Checks a folder of a DINO encoder (v1: ViTModel, v2: Dinov2Model); raises EvaluationError."""
    return _checked("--encoders dino", path, DINO_CLASSES, tokenizer=False)


def clip_folder(path: Path) -> EncoderFolder:
    """Checks a folder of a CLIPModel; raises EvaluationError."""
    return _checked("--encoders clip", path, CLIP_CLASSES, tokenizer=True)


def _checked(field: str, path: Path, classes: dict[str, str], *, tokenizer: bool) -> EncoderFolder:
    shown = printable(str(path))
    wanted = " or ".join(classes.values())
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EvaluationError(
            f"{field}: {shown} has no config.json that names a model; give the folder of a {wanted}"
            " in transformers' layout"
        ) from error
    if kind not in classes:
        raise EvaluationError(f"{field}: {shown} holds a {kind}; give the folder of a {wanted}")
    if not (path / IMAGE_PROCESSOR).is_file():
        raise EvaluationError(
            f"{field}: {shown} has no image processor ({IMAGE_PROCESSOR}), without which nobody knows how"
            " its pictures are scaled; copy it from where the model came"
        )
    if not any(path.glob("*.safetensors")):
        raise EvaluationError(
            f"{field}: {shown} has no .safetensors file; save the model again with"
            " save_pretrained of transformers"
        )
    if tokenizer and not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise EvaluationError(
            f"{field}: {shown} has no tokenizer ({' or '.join(TOKENIZER_FILES)}); copy it from where the"
            " model came"
        )
    return EncoderFolder(field, path, classes[kind], _digest(field, path))


def _digest(field: str, folder: Path) -> str:
    """Digest of the files in a folder, hidden ones left out; links of a Hugging Face cache are followed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    named = {path.relative_to(folder).as_posix(): path for path in files}
    try:
        return content_digest(
            {name: hash_file(path) for name, path in named.items() if not name.startswith(".")}
        )
    except OSError as error:
        name = printable(str(error.filename))
        raise EvaluationError(
            f"{field}: {name} can't be read: {error.strerror}; copy the folder again"
        ) from error


class DinoEncoder:
    """Class tokens of a DINO model's last layer, in float32: the features of arXiv 2104.14294 and 2304.07193."""

    def __init__(self, folder: EncoderFolder, device: torch.device) -> None:
        """Loads a checked folder; raises EvaluationError."""
        options = {"add_pooling_layer": False} if folder.class_name == "ViTModel" else {}
        self._model = _load(folder, device, **options)
        self._processor = _image_processor(folder)
        self._field, self._device = folder.field, device

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """As `PictureEncoder.embed`."""
        batches = [
            self._model(pixel_values=pixels).last_hidden_state[:, 0]
            for pixels in _pixels(self._processor, pictures, self._device)
        ]
        return _finite(self._field, batches)


class ClipEncoder:
    """Projected pictures and texts of a CLIPModel (arXiv 2103.00020), in float32."""

    def __init__(self, folder: EncoderFolder, device: torch.device) -> None:
        """Loads a checked folder; raises EvaluationError."""
        from transformers import CLIPTokenizer

        self._model = _load(folder, device)
        self._processor = _image_processor(folder)
        with _loading(folder, "tokenizer"):
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(folder.path, local_files_only=True)
        self._field, self._device = folder.field, device

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """As `PictureEncoder.embed`."""
        batches = [
            self._model.visual_projection(
                self._model.vision_model(pixel_values=pixels).pooler_output
            )
            for pixels in _pixels(self._processor, pictures, self._device)
        ]
        return _finite(self._field, batches)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """As `TextEncoder.embed_texts`."""
        longest = self._model.config.text_config.max_position_embeddings
        options = {"padding": "max_length", "truncation": True, "max_length": longest}
        batches = []
        for start in range(0, len(texts), BATCH):
            tokens = self._tokenizer(
                list(texts[start : start + BATCH]), return_tensors="pt", **options
            ).to(self._device)
            states = self._model.text_model(**tokens).pooler_output
            batches.append(self._model.text_projection(states))
        return _finite(self._field, batches)


def _load(folder: EncoderFolder, device: torch.device, **options: Any) -> Any:
    """The model of a checked folder, in float32; raises EvaluationError where tensors are missing."""
    import transformers

    model_class: Any = getattr(transformers, folder.class_name)
    with _loading(folder, "model"):
        model, found = model_class.from_pretrained(
            folder.path,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    missing = sorted(found["missing_keys"])
    if missing:  # they would be random numbers
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise EvaluationError(
            f"{folder.field}: {printable(str(folder.path))} lacks tensors of a {folder.class_name}:"
            f" {', '.join(missing[:NAMED])}{more}; give the folder of the whole model"
        )
    return model.to(device).eval()


def _image_processor(folder: EncoderFolder) -> Any:
    from transformers import AutoImageProcessor

    with _loading(folder, "image processor"):
        # The same pixels whether torchvision is installed or not.
        return AutoImageProcessor.from_pretrained(folder.path, local_files_only=True, backend="pil")


@contextmanager
def _loading(folder: EncoderFolder, part: str) -> Iterator[None]:
    """Turns anything that a library makes of unusable files into an EvaluationError."""
    try:
        yield
    except Exception as error:
        raise EvaluationError(
            f"{folder.field}: the {part} in {printable(str(folder.path))} can't be loaded"
            f" ({type(error).__name__}); copy the folder again from where it came"
        ) from error


def _pixels(processor: Any, pictures: Sequence[Image.Image], device: torch.device) -> list[Tensor]:
    """Pictures as a model wants them, in batches (B, 3, H, W)."""
    return [
        processor(images=list(pictures[start : start + BATCH]), return_tensors="pt")[
            "pixel_values"
        ].to(device)
        for start in range(0, len(pictures), BATCH)
    ]


def _finite(field: str, batches: Sequence[Tensor]) -> Embeddings:
    """Embeddings, (N, D), all of which are numbers and none of which is zero; raises EvaluationError."""
    found: Embeddings = torch.cat(list(batches)).cpu().numpy()
    if not (np.isfinite(found).all() and np.linalg.norm(found, axis=-1).all()):
        raise EvaluationError(
            f"{field}: its embeddings are not finite, or zero; copy the folder again from where it came"
        )
    return found
