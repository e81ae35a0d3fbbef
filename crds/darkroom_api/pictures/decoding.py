"""Decodes pictures from outside: bytes of a file in, upright sRGB out, within 512 MiB of memory.

Nothing is decoded before its size, real format and dimensions are known to be harmless. Pillow's
settings for the whole process stay as they are: other threads may decode at the same time.
"""

import io
import warnings
from dataclasses import dataclass, replace
from typing import Any, Final

import pi_heif
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from darkroom_api.pictures import jpeg, png
from darkroom_api.pictures.bounds import (
    MAX_COEFFICIENT_BYTES,
    MAX_FILE_BYTES,
    MAX_JPEG_BYTES,
    MAX_MEGAPIXELS,
    UnfitPictureError,
)
from darkroom_api.pictures.colour import to_srgb

pi_heif.register_heif_opener(thumbnails=False)

DEFAULT_SIDE: Final = 1024
"""Pixels of the short side that nobody needs more of: classifiers look at 224 to 512."""

NO_END_MARKER: Final = "lacks its end marker: a row or two at its bottom may be missing"
"""What is said of a JPEG that was cut off behind its last rows."""

_MCU_ROWS: Final = 16
"""Most rows of a JPEG that are decoded at once."""

_MISSED_SHARE: Final = 100
"""One row in so many may be missing at the bottom."""

_DECODERS_GREY: Final = ((128, 128), (127, 127))
"""Darkest and lightest value of a band of what the decoder had no data for; CMYK is inverted."""

_STARTS: Final = {
    b"\xff\xd8\xff": "JPEG",
    png.SIGNATURE: "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}

_BRANDS: Final = {
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
}
"""Brands of files that begin with a box `ftyp` (ISO/IEC 23008-12, annex B); AVIF calls itself mif1, too."""

_REDUCED_IMAGE: Final = 1
_NEW_SUBFILE_TYPE: Final = 0xFE
_DNG_VERSION: Final = 0xC612
"""Tags of TIFF (TIFF 6.0, section 8; DNG 1.7)."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture."""

    image: Image.Image
    """Upright, 8-bit sRGB; large ones are scaled down while they are decoded."""

    size: tuple[int, int]
    """Width and height in the file, upright."""

    remark: str | None = None
    """What its owner should know of it, as in `NO_END_MARKER`."""


def decode_picture(content: bytes, side: int = DEFAULT_SIDE) -> Picture:
    """The picture of a file's bytes; raises UnfitPictureError.

    One whose short side has more than twice as many pixels as `side` may come scaled down, by a whole
    number, to no fewer than that.
    """
    _check_size(content)
    name = _format_of(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode_jpeg(content, side) if name == "JPEG" else _decode(content, name, side)
    except UnfitPictureError:
        raise
    except Image.DecompressionBombError as error:
        raise UnfitPictureError(
            f"has many more pixels than the limit of {MAX_MEGAPIXELS[name]} megapixels; use a smaller one"
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


def _format_of(content: bytes) -> str:
    """Pillow's name of the format, by the first bytes, never by a name or a content type."""
    for start, name in _STARTS.items():
        if content.startswith(start):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:2] == b"BM" and content[6:10] == bytes(4):
        return "BMP"
    what = "not a picture that can be read"
    if content[4:8] == b"ftyp":
        brands = content[8 : min(64, int.from_bytes(content[:4]))]
        for name, known in _BRANDS.items():
            if any(brand in brands for brand in known):
                return name
        what = "a video, or a kind of HEIF that can't be read"
    if content.startswith(b"%PDF"):
        what = "a PDF"
    if b"<svg" in content[:4096].lower():
        what = "an SVG drawing"
    raise UnfitPictureError(f"is {what}, whatever its name says; convert it to JPEG or PNG")


def _check_pixels(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_MEGAPIXELS[name] * 1_000_000:
        kind = "JPEG" if name == "JPEG" else f"{name}, which can't be scaled while it is decoded"
        raise UnfitPictureError(
            f"is {width} x {height} = {width * height / 1e6:.0f} megapixels, more than the limit of"
            f" {MAX_MEGAPIXELS[name]} for {kind}; use a smaller one, or a JPEG"
        )


def _decode(content: bytes, name: str, side: int) -> Picture:
    plain = png.plain_png(content) if name == "PNG" else png.PlainPng(content, None)
    with Image.open(io.BytesIO(plain.content), formats=(name,)) as image:
        _check_pixels(image.size, name)
        _check_frames(image, name)
        size = image.size
        image.load()
        rgb = _small_srgb(image, side, plain.profile)
    del image  # turning it upright takes as much memory again
    return _upright(rgb, size)


def _check_frames(image: Image.Image, name: str) -> None:
    # A HEIC with several pictures says which of them is the photo.
    if name != "HEIF" and getattr(image, "is_animated", False):
        what = "has several pages" if name == "TIFF" else "is animated"
        raise UnfitPictureError(f"{what}; save one of them as a picture of its own")
    if name == "TIFF":
        tags = image.getexif()
        if _DNG_VERSION in tags or tags.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED_IMAGE:
            raise UnfitPictureError("is a camera's raw file; export it as JPEG")
    if image.mode in ("F", "LAB"):
        raise UnfitPictureError(f"has pixels of the kind {image.mode}; save it as 8-bit RGB")


def _decode_jpeg(content: bytes, side: int) -> Picture:
    structure = jpeg.jpeg_structure(content)
    if structure is None:
        raise UnfitPictureError("is damaged or cut off and can't be decoded; save it again")
    if structure.coefficient_bytes > MAX_COEFFICIENT_BYTES:
        raise UnfitPictureError(
            f"is a progressive JPEG that takes {structure.coefficient_bytes >> 20} MiB to decode, more"
            f" than the limit of {MAX_COEFFICIENT_BYTES >> 20} MiB; save it as a baseline JPEG"
        )
    if structure.ends:
        return _decode_scaled(content, side, structure)
    if structure.is_progressive:  # what the scans that are gone would have said is not to be seen
        raise UnfitPictureError("is a progressive JPEG that is cut off; save it again")
    picture = _decode_scaled(content + jpeg.END, side, structure)
    return replace(picture, remark=NO_END_MARKER)


def _decode_scaled(content: bytes, side: int, structure: jpeg.JpegStructure) -> Picture:
    # Without `Image.open`, whose bound on pixels is one for the process; the first picture is the photo
    # also where a phone has put others behind it (MPO).
    with JpegImageFile(io.BytesIO(content)) as image:
        size = image.size
        _check_pixels(size, "JPEG")
        scale = _draft_scale(size, side, MAX_JPEG_BYTES - structure.coefficient_bytes)
        image.draft(None, (size[0] // scale, size[1] // scale))
        image.load()
        if not structure.ends:
            _refuse_missing_rows(image, max(1, _MCU_ROWS // scale))
        rgb = _small_srgb(image, side)
    del image
    return _upright(rgb, size)


def _draft_scale(size: tuple[int, int], side: int, room_bytes: int) -> int:
    """By how much a JPEG is scaled while it is decoded: 1, 2, 4 or 8."""
    short, num_bytes = min(size), 8 * size[0] * size[1]
    wanted = max(scale for scale in (1, 2, 4, 8) if scale == 1 or short >= 2 * side * scale)
    needed = min(
        scale for scale in (1, 2, 4, 8) if scale == 8 or num_bytes <= room_bytes * scale**2
    )
    return max(wanted, needed)


def _refuse_missing_rows(image: Image.Image, mcu_rows: int) -> None:
    """Raises where more is gone than rows that nobody misses: the decoder makes it an even grey."""
    bottom = image.height - image.height // _MISSED_SHARE
    band = image.crop((0, max(0, bottom - mcu_rows), image.width, bottom))
    extrema = band.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    if all(ends in _DECODERS_GREY for ends in bands):
        raise UnfitPictureError("is cut off: its lower part is missing; save it again")


def _small_srgb(image: Image.Image, side: int, profile: bytes | None = None) -> Image.Image:
    """The picture in sRGB, scaled down by a whole number where it is much larger than needed."""
    profile = profile or image.info.get("icc_profile")
    orientation: dict[str | tuple[int, int], Any] = {
        key: image.info[key] for key in ("exif", "xmp") if key in image.info
    }
    factor = min(image.size) // (2 * side)
    if factor >= 2:
        if image.mode in ("1", "P"):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        if image.mode.startswith("I;16"):
            image = image.convert("I")
        image = image.reduce(factor)
    rgb = to_srgb(image, profile)
    rgb.info = orientation
    return rgb


def _upright(rgb: Image.Image, size: tuple[int, int]) -> Picture:
    ImageOps.exif_transpose(rgb, in_place=True)
    rgb.info = {}
    turned = (rgb.width > rgb.height) != (size[0] > size[1])
    return Picture(rgb, (size[1], size[0]) if turned else size)
