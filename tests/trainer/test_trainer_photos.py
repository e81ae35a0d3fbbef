"""Photos as users have them: good ones become squares of RGB, bad ones are set aside with a reason."""

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.photos import load_photos

SIDE = 64


def encoded(image, format_="PNG", **options):
    content = io.BytesIO()
    image.save(content, format=format_, **options)
    return content.getvalue()


def picture(mode="RGB", size=(80, 100), seed=1):
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(
        mode
    )


@pytest.fixture
def folder(tmp_path):
    """Three good photos: a folder that works."""
    for number in range(3):
        (tmp_path / f"good-{number}.png").write_bytes(encoded(picture(seed=10 + number)))
    return tmp_path


def bomb(side):
    """A small PNG whose header promises `side` x `side` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def animated():
    frames = [picture(), picture().rotate(90)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])


BAD = {
    "drawing.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
    "empty.png": (b"", "is empty (0 bytes)"),
    "cut.jpg": (encoded(picture(), "JPEG")[:-3000], "is cut off: its lower part is missing"),
    "large.png": (bomb(7_000), "is 7000 x 7000 = 49 megapixels, more than the limit of 40 for PNG"),
    "bomb.png": (bomb(50_000), "has many more pixels than the limit of 40 megapixels"),
    "animated.webp": (animated(), "is animated"),
    "paper.png": (b"%PDF-1.7 ...", "is a PDF"),
    "clip.jpg": (b"\0\0\0\x18ftypqt  ....", "is a video, or a kind of HEIF that can't be read"),
    "notes.doc": (b"remember the milk", "is not a picture that can be read"),
    "small.png": (encoded(picture(size=(31, 500))), "its short side has fewer than 32"),
    "huge.png": (b"\x89PNG\r\n\x1a\n" + bytes(101 << 20), "larger than the limit of 100 MiB"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_set_aside_with_its_reason(folder, name):
    content, reason = BAD[name]
    (folder / name).write_bytes(content)
    found = load_photos(folder, SIDE)
    assert len(found.photos) == 3
    assert [bad.name for bad in found.quarantined] == [name]
    assert reason in found.quarantined[0].reason


GOOD = {
    "cmyk.jpg": lambda: encoded(picture("CMYK"), "JPEG"),
    "grey.png": lambda: encoded(picture("L")),
    "palette.png": lambda: encoded(picture("P")),
    "transparent.png": lambda: encoded(picture("RGBA")),
    "deep.png": lambda: encoded(
        Image.fromarray(np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64))
    ),
    "old.gif": lambda: encoded(picture(), "GIF"),
    "scan.tiff": lambda: encoded(picture(), "TIFF"),
    "paint.bmp": lambda: encoded(picture(), "BMP"),
    "new.avif": lambda: encoded(picture(), "AVIF"),
    "web.webp": lambda: encoded(picture(), "WEBP"),
    "thin.png": lambda: encoded(picture(size=(40, 4000))),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_mode_of_the_formats_becomes_a_square_of_rgb(folder, name):
    (folder / name).write_bytes(GOOD[name]())
    found = load_photos(folder, SIDE)
    assert found.quarantined == ()
    photo = next(photo for photo in found.photos if photo.name == name)
    assert photo.pixels.shape == (SIDE, SIDE, 3)
    assert photo.pixels.dtype == np.uint8


def test_sixteen_bit_grey_is_scaled_and_not_clipped(folder):
    (folder / "deep.png").write_bytes(GOOD["deep.png"]())
    pixels = load_photos(folder, SIDE).photos[0].pixels
    assert pixels.min() < 20
    assert 100 < pixels.mean() < 155


def test_what_is_transparent_becomes_white(folder):
    (folder / "clear.png").write_bytes(encoded(Image.new("RGBA", (64, 64), (9, 9, 9, 0))))
    assert int(load_photos(folder, SIDE).photos[0].pixels.min()) == 255


def test_the_camera_s_orientation_is_applied(folder):
    left_black = Image.new("RGB", (90, 90), "white")
    left_black.paste("black", (0, 0, 45, 90))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: left becomes top
    (folder / "a.jpg").write_bytes(encoded(left_black, "JPEG", exif=exif, quality=95))
    pixels = load_photos(folder, SIDE).photos[0].pixels
    assert pixels[:20].mean() < 60
    assert pixels[-20:].mean() > 200


def test_a_wide_picture_is_cropped_in_the_middle_and_never_stretched(folder):
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    (folder / "a.png").write_bytes(encoded(wide))
    assert load_photos(folder, SIDE).photos[0].pixels[:, 2:-2, 2].min() > 200


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_photos_are_refused_with_every_reason(tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(seed=number)))
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(TrainerError) as caught:
        load_photos(tmp_path, SIDE)
    assert caught.value.reason == "TooFewPhotos"
    assert f"{count} of {count + 1} files can be used" in str(caught.value)
    assert "bad.jpg: is empty (0 bytes)" in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        TrainerError, match=r"spec\.subject.images: the folder .*nowhere can't be read"
    ):
        load_photos(tmp_path / "nowhere", SIDE)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainerError, match="file can't be read: Not a directory"):
        load_photos(tmp_path / "file", SIDE)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(_folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
    with pytest.raises(TrainerError, match=r"can't be read: Permission denied; check the path"):
        load_photos(tmp_path, SIDE)


def test_what_is_no_file_is_set_aside(folder):
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    found = load_photos(folder, SIDE)
    assert len(found.photos) == 3
    assert {bad.name: bad.reason for bad in found.quarantined} == dict.fromkeys(
        ("gone.png", "loop.png", "pipe.png"), "is not a regular file"
    )


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    outside.write_bytes(encoded(picture()))
    (folder / "link.png").symlink_to(outside)
    found = load_photos(folder, SIDE)
    assert found.quarantined[0].reason == "is a symbolic link that leads out of the folder"


def test_the_digest_is_of_the_files_that_are_used(folder):
    before = load_photos(folder, SIDE).digest
    (folder / "bad.jpg").write_bytes(b"")
    assert load_photos(folder, SIDE).digest == before
    (folder / "more.png").write_bytes(encoded(picture(size=(50, 50))))
    assert load_photos(folder, SIDE).digest != before
