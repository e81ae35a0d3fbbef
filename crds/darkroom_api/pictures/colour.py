"""Colours as sRGB, which every model was trained on: ICC profiles are converted, transparency is white."""

import io
from typing import Final, cast

from PIL import Image, ImageCms

_SPACES: Final = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's modes of the colour spaces that a profile can be of (ICC.1:2022, table 19)."""

_STRIP_ROWS: Final = 256
"""Rows that are converted at once, so that a large picture is not held three times."""

_EIGHT_BITS: Final = [value >> 8 for value in range(1 << 16)]
"""8-bit grey of each value of 16-bit grey; Pillow's own conversion clips instead of scaling."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """8-bit sRGB of a picture of any mode; a profile that can't be read is as none."""
    transform = _transform(image.mode, profile) if profile else None
    if transform is None and image.mode == "RGB" and not image.has_transparency_data:
        return image
    canvas = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height)))
        canvas.paste(_strip_to_srgb(strip, transform), (0, top))
    return canvas


def _transform(mode: str, profile: bytes) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = _SPACES.get(source.profile.xcolor_space)
        is_grey = mode in ("1", "L", "LA", "La") or mode.startswith("I")
        # A profile of another space than the picture's says nothing of its colours.
        if space is None or (space == "L") != is_grey or (space == "CMYK") != (mode == "CMYK"):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), space, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _strip_to_srgb(strip: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    if strip.mode.startswith("I"):
        strip = strip.convert("I").point(_EIGHT_BITS, "L")
    alpha = None
    if strip.has_transparency_data:
        grey = strip.mode in ("L", "LA", "La")
        strip = strip.convert("LA" if grey else "RGBA")
        alpha = strip.getchannel("A")
    if strip.mode not in ("L", "CMYK"):
        strip = strip.convert("L" if strip.mode in ("1", "LA") else "RGB")
    if transform is not None:
        strip = cast(Image.Image, ImageCms.applyTransform(strip, transform))
    rgb = strip.convert("RGB")
    if alpha is None:
        return rgb
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white
