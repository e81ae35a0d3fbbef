"""Pictures from outside are decoded upright to sRGB; what can't be is refused with a reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from darkroom_api.pictures.bounds import MAX_FILE_BYTES, UnfitPictureError
from darkroom_api.pictures.decoding import NO_END_MARKER, decode_picture
from darkroom_testing.colour_profiles import cmyk_profile, grey_profile, rgb_profile

HEIC = (Path(__file__).parents[1] / "data" / "photo.heic").read_bytes()


def saved(image, **options):
    target = io.BytesIO()
    image.save(target, **options)
    return target.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header_only_png(width, height):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 9) + b"IDAT"


def with_chunk(png, kind, body):
    """A PNG with a chunk more, behind its header."""
    return png[:33] + chunk(kind, body) + png[33:]


def noise(size=(64, 64)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
PNG, JPEG = saved(noise(), format="PNG"), saved(noise(), format="JPEG")
GREEN = saved(Image.new("RGB", (8, 8), (0, 200, 0)), format="PNG")
RAW = saved(Image.new("RGB", (8, 8)), format="TIFF", tiffinfo={0xC612: bytes([1, 4, 0, 0])})

REFUSED = {
    "empty": (b"", "is empty (0 bytes); use a picture's file"),
    "svg": (b"<svg/>", "is an SVG drawing, whatever its name says; convert it to JPEG or PNG"),
    "video": (b"\0\0\0\x18ftypmp42....", "is a video, or a kind of HEIF that can't be read"),
    "truncated": (PNG[:500], "is damaged or cut off and can't be decoded; save it again"),
    "truncated heic": (HEIC[:-200], "is damaged or cut off and can't be decoded; save it again"),
    "too many pixels": (
        header_only_png(9000, 10000),
        "is 9000 x 10000 = 90 megapixels, more than the limit of 40 for PNG, which can't be scaled"
        " while it is decoded; use a smaller one, or a JPEG",
    ),
    "bomb": (
        header_only_png(60000, 60000),
        "has many more pixels than the limit of 40 megapixels; use a smaller one",
    ),
    "jpeg bomb": (
        JPEG.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 65000, 65000)),
        "is 65000 x 65000 = 4225 megapixels, more than the limit of 1000 for JPEG",
    ),
    "progressive bomb": (
        saved(noise(), format="JPEG", progressive=True).replace(
            struct.pack(">HH", 64, 64), struct.pack(">HH", 30000, 30000)
        ),
        "is a progressive JPEG that takes 2574 MiB to decode, more than the limit of 286 MiB",
    ),
    "text bomb": (
        with_chunk(PNG, b"zTXt", b"a\0\0" + zlib.compress(bytes(65 << 20))),
        "is a text bomb: its text unpacks to more than 64 MiB",
    ),
    "animated": (
        saved(FRAMES[0], format="WEBP", save_all=True, append_images=FRAMES[1:]),
        "is animated; save one of them as a picture of its own",
    ),
    "animated gif": (
        saved(FRAMES[0], format="GIF", save_all=True, append_images=FRAMES[1:]),
        "is animated",
    ),
    "pages": (
        saved(FRAMES[0], format="TIFF", save_all=True, append_images=FRAMES[1:]),
        "has several pages",
    ),
    "raw": (RAW, "is a camera's raw file; export it as JPEG"),
    "floats": (saved(Image.new("F", (8, 8)), format="TIFF"), "has pixels of the kind F"),
    "large": (
        b"\xff\xd8\xff" + bytes(MAX_FILE_BYTES),
        "is 100.0 MiB, larger than the limit of 100 MiB; use a smaller one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_harmless_picture_is_refused(name):
    content, message = REFUSED[name]
    with pytest.raises(UnfitPictureError) as caught:
        decode_picture(content)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_the_formats_that_people_have_are_read(file_format):
    picture = decode_picture(saved(Image.new("RGB", (12, 8), "red"), format=file_format))
    assert (picture.image.mode, picture.image.size) == ("RGB", (12, 8))
    assert np.abs(np.subtract(picture.image.getpixel((4, 4)), (255, 0, 0))).max() <= 2


def test_a_heic_of_a_phone_is_read():
    picture = decode_picture(HEIC)
    assert picture.size == picture.image.size == (96, 64)
    assert np.abs(np.subtract(picture.image.getpixel((20, 32)), (200, 40, 40))).max() <= 3
    assert np.abs(np.subtract(picture.image.getpixel((70, 32)), (30, 60, 200))).max() <= 3


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_a_picture_is_turned_upright(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode_picture(saved(Image.new("RGB", (12, 8)), format=file_format, exif=exif))
    assert picture.image.size == picture.size == (8, 12)


@pytest.mark.parametrize(
    ("pixel", "mode", "expected"),
    [
        ((0, 255, 255, 0), "CMYK", (255, 0, 0)),
        ((255, 0, 0, 0), "RGBA", (255, 255, 255)),
        ((0, 0, 0, 128), "RGBA", (127, 127, 127)),
        ((100, 0), "LA", (255, 255, 255)),
        (200, "L", (200, 200, 200)),
    ],
)
def test_every_mode_becomes_rgb(pixel, mode, expected):
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    image = decode_picture(saved(Image.new(mode, (8, 300), pixel), format=file_format)).image
    for row in (4, 299):
        assert np.abs(np.subtract(image.getpixel((4, row)), expected)).max() <= 2


def test_16_bit_grey_is_scaled_not_clipped():
    deep = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert decode_picture(saved(deep, format="PNG")).image.getpixel((4, 4)) == (128, 128, 128)


def as_srgb(lab):
    image = Image.new("LAB", (1, 1), lab)
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="RGB").getpixel((0, 0))


INK = (135, 160, 150)
"""A colour in CIELAB, 8 bits."""

PROFILES = {
    "Adobe RGB": (rgb_profile(), "RGB", (200, 40, 40), (233, 35, 35)),
    "Adobe RGB with alpha": (rgb_profile(), "RGBA", (200, 40, 40, 255), (233, 35, 35)),
    "linear grey": (grey_profile(1.0), "L", 128, (188, 188, 188)),
    "inks": (cmyk_profile(INK), "CMYK", (255, 0, 0, 0), as_srgb(INK)),
    "paper": (cmyk_profile(INK), "CMYK", (0, 0, 0, 0), (255, 255, 255)),
    "a profile of inks in an RGB picture": (cmyk_profile(INK), "RGB", (9, 99, 9), (9, 99, 9)),
    "broken": (b"no profile " * 20, "RGB", (200, 40, 40), (200, 40, 40)),
    "cut": (rgb_profile()[:200], "RGB", (200, 40, 40), (200, 40, 40)),
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("name", PROFILES)
def test_an_embedded_profile_is_converted_to_srgb(name, file_format):
    profile, mode, pixel, expected = PROFILES[name]
    if (mode, file_format) in (("CMYK", "PNG"), ("RGBA", "JPEG")):
        file_format = "TIFF"
    options = {"quality": 100, "subsampling": 0} if file_format == "JPEG" else {}
    content = saved(
        Image.new(mode, (16, 16), pixel), format=file_format, icc_profile=profile, **options
    )
    found = decode_picture(content).image.getpixel((8, 8))
    assert np.abs(np.subtract(found, expected)).max() <= (2 if file_format == "JPEG" else 1)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"tEXt", b"workflow\0" + b"x" * (3 << 20)),
        (b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * (3 << 20))),
        (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * (3 << 20))),
        (b"zTXt", b"workflow\0\0" + b"no zlib"),
    ],
)
def test_text_in_a_png_is_ignored_however_long(kind, body):
    assert decode_picture(with_chunk(GREEN, kind, body)).image.getpixel((4, 4)) == (0, 200, 0)


def test_a_profile_of_more_than_a_megabyte_is_read():
    profile = rgb_profile() + np.random.default_rng(0).bytes(2 << 20)
    profile = struct.pack(">I", len(profile)) + profile[4:]
    content = saved(Image.new("RGB", (8, 8), (200, 40, 40)), format="PNG")
    content = with_chunk(content, b"iCCP", b"a\0\0" + zlib.compress(profile))
    assert decode_picture(content).image.getpixel((4, 4)) == (233, 35, 35)


@pytest.mark.parametrize("cut", [2, 3, 20])
def test_a_jpeg_without_its_end_marker_is_kept_with_a_remark(cut):
    picture = decode_picture(JPEG[:-cut])
    assert picture.remark == NO_END_MARKER
    whole = np.asarray(decode_picture(JPEG).image)
    assert decode_picture(JPEG).remark is None
    np.testing.assert_array_equal(np.asarray(picture.image)[:32], whole[:32])


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_of_which_a_part_is_missing_is_refused(mode, share):
    content = saved(noise((96, 96)).convert(mode), format="JPEG")
    with pytest.raises(UnfitPictureError, match="is cut off: its lower part is missing"):
        decode_picture(content[: int(len(content) * share)])


def test_a_progressive_jpeg_that_is_cut_off_is_refused():
    content = saved(noise(), format="JPEG", progressive=True)
    with pytest.raises(UnfitPictureError, match="is a progressive JPEG that is cut off"):
        decode_picture(content[:-2])


def test_what_stands_behind_a_jpeg_is_left_alone():
    second = saved(Image.new("RGB", (32, 32), "blue"), format="JPEG")
    picture = decode_picture(JPEG + second + b"a phone's own data")
    assert (picture.size, picture.remark) == ((64, 64), None)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_a_large_picture_is_scaled_by_a_whole_number(file_format, mode):
    image = Image.new(mode, (1280, 1024), 1 if mode in ("1", "P") else "white")
    if (file_format, mode) == ("JPEG", "P"):
        image = image.convert("RGB")
    picture = decode_picture(saved(image, format=file_format), side=64)
    assert picture.size == (1280, 1024)
    assert 128 <= min(picture.image.size) < 256
    assert picture.image.width * 4 == picture.image.height * 5


def test_a_picture_that_is_no_more_than_four_times_as_large_is_not_touched():
    large = noise((255, 300))
    content = saved(large, format="PNG")
    np.testing.assert_array_equal(np.asarray(decode_picture(content, 64).image), np.asarray(large))


def test_no_setting_of_pillow_is_changed():
    from PIL import ImageFile, PngImagePlugin

    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK
    assert before == (89478485, False, 1 << 20)
