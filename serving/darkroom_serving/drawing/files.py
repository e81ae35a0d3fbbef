"""Writes an image as a file whose text says how it was made: PNG, JPEG or WebP."""

import io
import json
from dataclasses import dataclass
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom_sampling.pixels import Pixels
from darkroom_serving.engine.requests import DrawRequest
from darkroom_serving.models.catalogue import ServedModel
from darkroom_serving.web.wire import Parameters

_EXIF_IFD: Final = 0x8769
_USER_COMMENT: Final = 0x9286
"""Tags of EXIF 2.32, section 4.6; where other image servers put the text, too."""


@dataclass(frozen=True)
class FileFormat:
    """How a file is written."""

    name: str = "png"
    """png, jpeg or webp."""

    quality: int = 100
    """Of jpeg and webp: 0 the smallest file, 100 the best."""


def image_bytes(
    picture: Pixels, request: DrawRequest, model: ServedModel, file_format: FileFormat
) -> bytes:
    """The file; the same picture of the same request gives the same bytes."""
    text = describe(request, model)
    target, image = io.BytesIO(), Image.fromarray(picture)
    if file_format.name == "png":
        image.save(target, format="PNG", pnginfo=_png_text(text))
    elif file_format.name == "jpeg":  # where Pillow takes 0 for no choice
        quality = max(file_format.quality, 1)
        image.save(target, format="JPEG", quality=quality, subsampling=0, exif=_exif(text))
    else:
        image.save(target, format="WEBP", quality=file_format.quality, exif=_exif(text))
    return target.getvalue()


def describe(request: DrawRequest, model: ServedModel) -> dict[str, str]:
    """Everything that it takes to draw the image again."""
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": str(request.seed),
        "model": model.model_id,
        "digest": model.digest,
        "sampler": str(request.sampler),
        "num_inference_steps": str(request.steps),
        "guidance_scale": repr(request.guidance_scale).removesuffix(".0"),  # every digit
        "size": f"{request.width}x{request.height}",
        **({"eta": repr(request.eta)} if request.eta else {}),
    }


def parameters_of(request: DrawRequest, model: ServedModel) -> Parameters:
    """What the answer says of the images, of which this is the first."""
    return Parameters(
        model=model.model_id,
        digest=model.digest,
        size=f"{request.width}x{request.height}",
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        sampler=request.sampler,
        eta=request.eta,
        seed=request.seed,
    )


def _png_text(text: dict[str, str]) -> PngInfo:
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)  # which takes iTXt by itself where Latin-1 doesn't suffice
    return info


def _exif(text: dict[str, str]) -> Image.Exif:
    """The text as JSON in the user's comment, in ASCII as that has it."""
    exif = Image.Exif()
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"ASCII\0\0\0" + json.dumps(text).encode("ascii")
    return exif
