"""Writes an image as a PNG file whose text says how it was made."""

import io

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom_sampling.pixels import Pixels
from darkroom_serving.engine.one_by_one import DrawRequest
from darkroom_serving.models.catalogue import ServedModel


def png_bytes(picture: Pixels, request: DrawRequest, model: ServedModel) -> bytes:
    """A PNG file; the same picture of the same request gives the same bytes."""
    info = PngInfo()
    for key, value in describe(request, model).items():
        info.add_text(key, value)  # which takes iTXt by itself where Latin-1 doesn't suffice
    target = io.BytesIO()
    Image.fromarray(picture).save(target, format="PNG", pnginfo=info)
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
