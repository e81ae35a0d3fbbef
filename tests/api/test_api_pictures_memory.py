"""The largest pictures that are read take less than 512 MiB above an idle process."""

import io
import json
import subprocess
import sys

import pytest
from PIL import Image

LIMIT_MIB = 512

MEASURE = """
import io, json, sys
from pathlib import Path
from PIL import Image
from darkroom_api.pictures.decoding import decode_picture

def peak_mib():
    # Not getrusage: what that says begins with the peak of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024

warm = io.BytesIO()
Image.new("RGB", (64, 64)).save(warm, format="JPEG")
decode_picture(warm.getvalue())
idle = peak_mib()
picture = decode_picture(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]))
print(json.dumps({"mib": peak_mib() - idle, "size": picture.size, "read": picture.image.size}))
"""


def tiled(mode, size):
    """A picture of that size with something to see everywhere, made in a moment."""
    tile = Image.effect_noise((512, 512), 60).convert(mode)
    if mode == "RGBA":
        tile.putalpha(Image.linear_gradient("L").resize(tile.size))
    row, whole = Image.new(mode, (size[0], 512)), Image.new(mode, size)
    for x in range(0, size[0], 512):
        row.paste(tile, (x, 0))
    for y in range(0, size[1], 512):
        whole.paste(row, (0, y))
    return whole


def measured(path, side):
    command = [sys.executable, "-c", MEASURE, str(path), str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def phone_jpeg(tmp_path_factory):
    """16320 x 12240: what a phone of 200 megapixels writes."""
    path = tmp_path_factory.mktemp("phone") / "200.jpg"
    tiled("RGB", (16320, 12240)).save(path, quality=60)
    return path


@pytest.mark.parametrize(
    ("side", "read"),
    [(512, (2040, 1530)), pytest.param(1024, (4080, 3060), marks=pytest.mark.exhaustive)],
)
def test_a_jpeg_of_200_megapixels_is_scaled_while_it_is_decoded(phone_jpeg, side, read):
    found = measured(phone_jpeg, side)
    assert (found["size"], found["read"]) == ([16320, 12240], list(read))
    assert found["mib"] < 192


TURNED = Image.Exif()
TURNED[0x0112] = 6

LARGEST = {
    "a thin png that is turned": ("RGBA", (19900, 2000), {"format": "PNG", "exif": TURNED}),
    "a thin jpeg of inks": ("CMYK", (16600, 3000), {"format": "JPEG", "exif": TURNED}),
    "webp": ("RGBA", (8000, 3100), {"format": "WEBP", "method": 0}),
    "progressive": ("RGB", (8064, 6048), {"format": "JPEG", "progressive": True, "subsampling": 0}),
}


ROWS = [
    pytest.param(name, marks=[] if name == "a thin png that is turned" else pytest.mark.exhaustive)
    for name in LARGEST
]


@pytest.mark.parametrize("name", ROWS)
def test_what_can_hardly_be_scaled_keeps_to_the_bound_too(tmp_path, name):
    mode, size, options = LARGEST[name]
    content = io.BytesIO()
    options = {"compress_level": 1, **options} if options["format"] == "PNG" else options
    tiled(mode, size).save(content, **options)
    path = tmp_path / "large"
    path.write_bytes(content.getvalue())
    found = measured(path, 1024)
    assert sorted(found["size"]) == sorted(size)
    assert 0 < found["mib"] < LIMIT_MIB
