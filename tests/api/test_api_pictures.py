"""Pictures from outside are decoded upright to RGB; what can't be is refused with a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from darkroom_api.pictures import MAX_FILE_BYTES, UnfitPictureError, decode_picture


def saved(image, **options):
    target = io.BytesIO()
    image.save(target, **options)
    return target.getvalue()


def header_only_png(width, height):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 9) + b"IDAT"


FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]

REFUSED = {
    "empty": (b"", "is empty (0 bytes); use a picture's file"),
    "svg": (
        b"<svg/>",
        "is an SVG drawing, whatever its name says; convert it to JPEG, PNG or WEBP",
    ),
    "gif": (saved(FRAMES[0], format="GIF"), "is a GIF, whatever its name says"),
    "truncated": (
        saved(Image.effect_noise((64, 64), 9), format="PNG")[:500],
        "is damaged or cut off and can't be decoded; save it again",
    ),
    "too many pixels": (
        header_only_png(9000, 10000),
        "is 9000 x 10000 = 90 megapixels, more than the limit of 40; use a smaller one",
    ),
    "bomb": (
        header_only_png(60000, 60000),
        "has many more pixels than the limit of 40 megapixels; use a smaller one",
    ),
    "animated": (
        saved(FRAMES[0], format="WEBP", save_all=True, append_images=FRAMES[1:]),
        "is animated; save one frame of it as a picture of its own",
    ),
    "large": (
        b"\xff\xd8\xff" + bytes(MAX_FILE_BYTES),
        "is 20.0 MiB, larger than the limit of 20 MiB; use a smaller one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_harmless_picture_is_refused(name):
    content, message = REFUSED[name]
    with pytest.raises(UnfitPictureError) as caught:
        decode_picture(content)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_three_formats_are_read(file_format):
    image = decode_picture(saved(Image.new("RGB", (12, 8), "red"), format=file_format))
    assert (image.mode, image.size) == ("RGB", (12, 8))


def test_a_picture_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_picture(saved(Image.new("RGB", (12, 8)), format="JPEG", exif=exif))
    assert image.size == (8, 12)


@pytest.mark.parametrize(
    ("pixel", "mode", "expected"),
    [
        ((0, 255, 255, 0), "CMYK", (255, 0, 0)),
        ((255, 0, 0, 0), "RGBA", (255, 255, 255)),
        (200, "L", (200, 200, 200)),
    ],
)
def test_every_mode_becomes_rgb(pixel, mode, expected):
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    found = decode_picture(saved(Image.new(mode, (8, 8), pixel), format=file_format)).getpixel(
        (4, 4)
    )
    assert np.abs(np.subtract(found, expected)).max() <= 2


def test_16_bit_grey_is_scaled_not_clipped():
    deep = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert decode_picture(saved(deep, format="PNG")).getpixel((4, 4)) == (128, 128, 128)
