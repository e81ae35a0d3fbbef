"""Decodes pictures from outside, for trainer and serving alike: JPEG, PNG or WEBP in, upright RGB out.

Nothing is decoded before its size, real format and dimensions are known to be harmless.
"""

import io
import warnings
from typing import Final

from PIL import Image, ImageOps

MAX_FILE_BYTES: Final = 20 << 20
"""Largest file that is read."""

MAX_PIXELS: Final = 40_000_000
"""Most pixels that are decoded: an RGBA picture of that size takes 160 MB."""

MIN_PHOTOS: Final = 3
"""Fewest good photos of a subject; the paper uses 3 to 5 (DreamBooth, section 4)."""

MIN_PHOTO_SIDE: Final = 32
"""Shortest side of a photo in pixels that shows anything to learn; also the smallest training resolution."""

MAX_PHOTO_FILES: Final = 1000
"""Most files in a folder of photos: beyond it the folder is taken for a mistake."""

FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""Names of Pillow's decoders."""

_OTHER_FORMATS: Final = {b"GIF8": "a GIF", b"%PDF": "a PDF", b"II*\0": "a TIFF", b"MM\0*": "a TIFF"}


class UnfitPictureError(ValueError):
    """Why a picture is not used, and what to do: "is animated; send one frame of it"."""


def decode_picture(content: bytes) -> Image.Image:
    """An upright RGB picture of a file's bytes; raises UnfitPictureError."""
    _check_size(content)
    _check_format(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _check_header(image)
                return _to_rgb(ImageOps.exif_transpose(image))
    except UnfitPictureError:
        raise
    except Image.DecompressionBombError as error:
        limit = MAX_PIXELS // 1_000_000
        raise UnfitPictureError(
            f"has many more pixels than the limit of {limit} megapixels; use a smaller one"
        ) from error
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        raise UnfitPictureError(
            "is damaged or cut off and can't be decoded; save it again"
        ) from error


def _check_size(content: bytes) -> None:
    if not content:
        raise UnfitPictureError("is empty (0 bytes); use a picture's file")
    if len(content) > MAX_FILE_BYTES:
        raise UnfitPictureError(
            f"is {len(content) / 2**20:.1f} MiB, larger than the limit of"
            f" {MAX_FILE_BYTES >> 20} MiB; use a smaller one"
        )


def _check_format(content: bytes) -> None:
    """Judges by the first bytes, never by a name or a content type."""
    if content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return
    what = _OTHER_FORMATS.get(content[:4], "not a picture that can be read")
    if content[4:8] == b"ftyp":
        what = "a HEIC, AVIF or video file"
    if b"<svg" in content[:4096].lower():
        what = "an SVG drawing"
    raise UnfitPictureError(f"is {what}, whatever its name says; convert it to JPEG, PNG or WEBP")


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnfitPictureError(
            f"is {width} x {height} = {width * height / 1e6:.0f} megapixels,"
            f" more than the limit of {MAX_PIXELS // 1_000_000}; use a smaller one"
        )
    # MPO is a phone's JPEG with a preview behind the photo, not an animation.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise UnfitPictureError("is animated; save one frame of it as a picture of its own")


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode that the formats can have; what is transparent becomes white."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips instead of scaling
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return image.convert("RGB")
